"""Which requests run together, on which instance, and when: pure decisions, and the one shell that carries them out.

    plan.Plan      what a decision is asked and what it answers
    fifo           one request an execution, in order
    batcher        the dynamic batcher, over queue.PriorityQueue, by the settings of policy
    sequence       requests of one sequence in order on one instance, with the tensors of controls
    limiter        which instances may run now, over all models
    order          responses in the order in which their requests were started
    runner         the shell: hands batches to idle instances, keeps the timers

`tensor_model.plan_for` picks the plan that a configuration asks for.
"""
