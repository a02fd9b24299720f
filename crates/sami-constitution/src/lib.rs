//! Principles and antitheses, constitutions sampled from them, and prompt templates.
