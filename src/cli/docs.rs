//! `chancery docs`: pages made from the program, so that they cannot be wrong about it.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Failure, print};

mod records;

/// `chancery docs`.
#[derive(Clone, Debug, Args)]
pub struct DocsArguments {
    /// Write the pages into this directory instead of printing them.
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,
}

pub fn run(arguments: &DocsArguments) -> Result<(), Failure> {
    for (name, text) in pages() {
        match &arguments.write {
            None => print(&text)?,
            Some(directory) => {
                let path = directory.join(name);
                std::fs::write(&path, text).map_err(|error| {
                    Failure::failed(format!("CHY-OS: cannot write {}: {error}", path.display()))
                })?;
            }
        }
    }
    Ok(())
}

/// By their paths from docs/.
fn pages() -> [(&'static str, String); 4] {
    [
        ("commands.md", commands()),
        ("errors.md", super::why::markdown()),
        ("records.md", records::page()),
        ("../firmware-config/README.md", crate::config::keys::page()),
    ]
}

/// Every command, hidden ones left out, with its options.
fn commands() -> String {
    let mut root = super::Arguments::command();
    root.build();
    let mut text = String::from("# Commands\n\nWritten by `make docs`.\n");
    text.push_str(&format!(
        "\n{}\n",
        root.get_long_about().map(ToString::to_string).unwrap_or_default()
    ));
    text.push_str("\nEvery command takes:\n\n");
    for argument in root.get_arguments().filter(|argument| argument.is_global_set()) {
        text.push_str(&line(argument));
    }
    for command in root.get_subcommands() {
        describe(command, "chancery", &mut text);
    }
    text
}

fn describe(command: &clap::Command, before: &str, text: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{before} {}", command.get_name());
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            describe(inner, &name, text);
        }
        return;
    }
    let about = command.get_long_about().or_else(|| command.get_about());
    text.push_str(&format!(
        "\n## `{name}`\n\n{}\n",
        about.map(ToString::to_string).unwrap_or_default()
    ));
    let own = |argument: &&clap::Arg| {
        !argument.is_global_set()
            && !argument.is_hide_set()
            && !["help", "version"].contains(&argument.get_id().as_str())
    };
    let lines: String = command.get_arguments().filter(own).map(line).collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n{lines}"));
    }
}

fn line(argument: &clap::Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .unwrap_or_default();
    let name = match argument.get_long() {
        Some(long) if value.is_empty() => format!("--{long}"),
        Some(long) => format!("--{long} {value}"),
        None => value,
    };
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match defaults.is_empty() || !argument.get_action().takes_values() {
        true => String::new(),
        false => format!(" Default: `{}`.", defaults.join(", ")),
    };
    format!("- `{name}`: {}{default}\n", help.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_pages_are_current() {
        for (file, now) in super::pages() {
            let path = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == now,
                "{path} is not what the program says; `make docs` writes it anew"
            );
        }
    }
}
