//! Drills: the vision service that is not there, and the rehearsals that use it.
//!
//! Nothing here runs unless it is asked for by name: no review ever falls back to the stand-in.
//! Invariant: what the stand-in says about a picture names itself, so that its answers can never be
//! taken for a model's.

pub mod fake_gemini;
