"""Model-written programs run where they can do no harm: forked, isolated by the kernel, judged outside."""
