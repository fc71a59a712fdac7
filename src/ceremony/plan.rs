//! Ceremony: plan.
