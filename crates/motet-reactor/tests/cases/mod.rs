//! How many cases a property is tried with.

use proptest::test_runner::Config;

/// As many as the environment's `PROPTEST_CASES` asks for (see CONTRIBUTING.md); the usual number otherwise.
pub(crate) fn config(usual: u32) -> Config {
    let environment = Config::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => environment,
        None => Config { cases: if cfg!(miri) { 3 } else { usual }, ..environment },
    }
}
