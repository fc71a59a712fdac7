//! What a log directory means at start: the valid prefix, the torn tail, or a reason to halt.
