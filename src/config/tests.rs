use super::*;

fn loaded(toml: &str) -> Settings {
    Settings::load(Layers::default().with_text("worker.toml", toml)).unwrap_or_else(|e| panic!("{e}"))
}
