//! What services can do to the guardian by what they say, and by who they are.

mod names;
mod secrets;
mod worst;
