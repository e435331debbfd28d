//! The commented example file, rendered from the keys.

use super::keys::{Key, Preset, SECTIONS};

const HEAD: &str = "\
# Longshore node. Every key with its default; what is commented out is what the node does anyway.
# Rendered from the program: `longshore-node config example`. Check yours: `longshore-node config check --config FILE`.
#
# Any key can be overridden by an environment variable: http.public_url by LONGSHORE_HTTP_PUBLIC_URL.
# Sizes: \"64MiB\". Durations: \"24h\". Node, region and cluster are not configured: `cluster-cli init` and
# `cluster-cli join` mint them.
";

/// Renders `config/node.example.toml`.
pub fn render() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        text.push('\n');
        push_comment(&mut text, section.doc);
        text.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            push_comment(&mut text, key.doc);
            text.push_str(&setting(key));
        }
    }
    text
}

fn setting(key: &Key) -> String {
    match key.preset {
        Preset::Set(default) => format!("#{} = {default}\n", key.name),
        Preset::Unset(example) => format!("#{} = {example}   # an example; unset by default\n", key.name),
    }
}

fn push_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("#{line}\n"));
    }
}
