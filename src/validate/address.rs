//! Which addresses may be dialled: the SSRF rules.
