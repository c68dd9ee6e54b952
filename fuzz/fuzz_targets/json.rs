//! JSON of strangers, in pieces, beside serde_json.

#![no_main]

node_guardian_fuzz::target!("json");
