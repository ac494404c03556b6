//! Fresh, cached and resumed sessions, and what becomes of them when trust changes or time passes.
