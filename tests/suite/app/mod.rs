//! Applications that speak ng-control/1: the document, two programs that implement it, and the control that uses them.

mod acts;
mod dead;
mod document;
mod numbers;
#[path = "../../apps/pages/main.rs"]
mod pages;

/// The test below by its name: the Rust application is this very executable, asked for that test alone.
pub const SERVES: &str = "app::the_application_in_rust_serves_where_it_is_asked_to";

#[test]
fn the_application_in_rust_serves_where_it_is_asked_to() {
    if std::env::var_os("PAGES").is_some() {
        pages::main();
    }
}
