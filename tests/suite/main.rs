//! The integration tests: one binary, one module per area, data in `tests/fixtures`.

mod host;
