//! temporary
fn main() -> std::process::ExitCode {
    let config = std::env::args().nth(1).map(Into::into);
    std::process::ExitCode::from(node_guardian::cli::run::run(&node_guardian::cli::run::Options {
        config,
        ..Default::default()
    }))
}
