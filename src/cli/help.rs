//! What `--help` shows besides the options: the commands by what they are for, and examples.
//!
//! Invariants, held by tests: every visible command stands in exactly one group, every command has an
//! example, and every example parses.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// The visible commands, by what a person wants.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["serve", "run", "pause", "resume"]),
    ("Inspect", &["status", "next", "history", "runs", "audit", "simulate"]),
    ("Images", &["review", "rerun"]),
    ("Alerts", &["incidents", "incident", "alert"]),
    ("Set up", &["init", "check", "doctor", "demo", "stand-in"]),
];

/// Examples of a command: what is typed, and what for.
type Examples = &'static [(&'static str, &'static str)];

/// By command; `run` and others have subcommands with examples of their own.
const EXAMPLES: &[(&str, Examples)] = &[
    (
        "alert test",
        &[
            ("lookout alert test", "Send a test message to every channel"),
            ("lookout alert test team-slack", "Send one to this channel"),
        ],
    ),
    ("alert dead", &[("lookout alert dead", "List undelivered messages and why")]),
    ("alert replay", &[("lookout alert replay msg_01", "Resend this message")]),
    (
        "audit",
        &[
            ("lookout audit", "Audit the last 7 days"),
            ("lookout audit --from 2026-11-01 --to 2026-12-01", "Audit November"),
        ],
    ),
    ("check", &[("lookout check", "Validate the configuration in this folder")]),
    (
        "demo",
        &[
            ("lookout demo", "Run the demo and keep it running"),
            ("lookout demo --once --images ~/photos", "Use your own images, then exit"),
        ],
    ),
    (
        "doctor",
        &[
            ("lookout doctor", "Test everything that the configuration names"),
            ("lookout doctor --call", "Send Gemini one small request, too"),
        ],
    ),
    (
        "history",
        &[
            ("lookout history", "Show the last 20 runs"),
            ("lookout history image-review --from 24h", "Show a day of one schedule"),
            ("lookout history --images 7f3e", "Show every review of one image"),
        ],
    ),
    ("incident ack", &[("lookout incident ack 142", "Stop the reminders of incident 142")]),
    (
        "incidents",
        &[
            ("lookout incidents", "List what is open"),
            ("lookout incidents --all -n 10", "List the last 10, resolved ones included"),
        ],
    ),
    ("init", &[("lookout init", "Write lookout.toml, schedules/ and alerts/")]),
    (
        "next",
        &[
            ("lookout next", "Show the next 10 runs"),
            ("lookout next image-review -n 24", "Show the next 24 of one schedule"),
        ],
    ),
    (
        "pause",
        &[
            ("lookout pause image-review --until 2h", "Skip the runs of the next two hours"),
            (
                "lookout pause image-review --reason \"moving the bucket\"",
                "Skip runs until `lookout resume`",
            ),
        ],
    ),
    (
        "rerun",
        &[
            ("lookout rerun --category N1", "Show the images and the price"),
            ("lookout rerun --category N1 --yes", "Review them again"),
            (
                "lookout rerun --status auto_review_error --from 24h",
                "Show the failed ones of a day",
            ),
            ("lookout rerun --stuck --yes", "Return images stuck in processing to the queue"),
        ],
    ),
    ("resume", &[("lookout resume image-review", "Let the schedule run again")]),
    (
        "review",
        &[
            ("lookout review --dry-run", "Show how many images wait and what they cost"),
            ("lookout review --limit 20", "Review 20 images"),
            ("lookout review --image photo.jpg", "Review one file; write nothing"),
            ("lookout review --compare 50", "Compare new answers with 50 stored ones"),
        ],
    ),
    ("run", &[("lookout run image-review", "Start a run now and wait for it")]),
    ("run stop", &[("lookout run stop image-review", "Stop the run in progress")]),
    ("runs show", &[("lookout runs show 01a2038b-f585 --log", "Show one run with its output")]),
    ("serve", &[("lookout serve -c /etc/lookout/lookout.toml", "Run with this configuration")]),
    ("simulate", &[("lookout simulate --days 90", "Look ahead over a clock change")]),
    (
        "stand-in gemini",
        &[("lookout stand-in gemini --port 8730", "Answer on http://127.0.0.1:8730")],
    ),
    ("status", &[("lookout status", "Show the daemon, schedules and open incidents")]),
];

const AFTER: &str = "\
Run `lookout COMMAND --help` for options and examples.
Exit codes: 0 done, 1 failed, 2 wrong usage, 75 try again later, 78 wrong configuration.";

/// The command line with its help.
#[must_use]
pub fn command() -> Command {
    // Wider lines are hard to read, whatever the terminal has.
    let mut command = Cli::command().after_help(AFTER).max_term_width(100);
    for (path, examples) in EXAMPLES {
        let path: Vec<&str> = path.split(' ').collect();
        command = with_examples(command, &path, examples);
    }
    let template = template(&command);
    command.help_template(template)
}

fn with_examples(command: Command, path: &[&str], examples: Examples) -> Command {
    match path.split_first() {
        None => command.after_help(examples_text(examples)),
        Some((name, rest)) => {
            command.mut_subcommand(*name, |sub| with_examples(sub, rest, examples))
        }
    }
}

fn examples_text(examples: Examples) -> String {
    let mut text = "Examples:".to_owned();
    for (line, what) in examples {
        // Writing to a String can't fail.
        let _ = write!(text, "\n  {line}\n      {what}");
    }
    text
}

/// clap lists commands in one piece; here they stand by group.
fn template(command: &Command) -> String {
    let mut text = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (group, names) in GROUPS {
        let _ = write!(text, "\n{group}:\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name:<10} {about}");
        }
    }
    text.push_str("\nOptions:\n{options}{after-help}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the commands that can be called, without the hidden ones.
    fn callable(command: &Command, prefix: &str) -> Vec<String> {
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        visible
            .filter(|sub| sub.get_name() != "help")
            .flat_map(|sub| {
                let name = format!("{prefix}{}", sub.get_name());
                let below = callable(sub, &format!("{name} "));
                let itself = (!sub.is_subcommand_required_set()).then_some(name);
                itself.into_iter().chain(below)
            })
            .collect()
    }

    #[test]
    fn every_visible_command_stands_in_exactly_one_group() {
        let command = Cli::command();
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let mut visible: Vec<&str> = visible.map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        visible.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, visible);
    }

    #[test]
    fn every_command_has_examples_and_every_example_parses() {
        let mut with_examples: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        let mut callable = callable(&Cli::command(), "");
        with_examples.sort_unstable();
        callable.sort_unstable();
        assert_eq!(with_examples, callable);
        for (name, examples) in EXAMPLES {
            for (line, _) in *examples {
                assert!(line.starts_with(&format!("lookout {name}")), "{line}");
                // Quotes are the shell's: what stands between two is one argument.
                let words = line.split('"').enumerate().flat_map(|(index, part)| {
                    if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
                });
                let parsed = command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn help_is_in_sentence_case_imperative_and_fits_into_80_columns() {
        fn check(command: &mut Command, wrong: &mut Vec<String>) {
            let name = command.get_name().to_owned();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let first = about.split_whitespace().next().unwrap_or_default();
            let is_third_person = first.ends_with('s') && !first.ends_with("ss");
            let is_sentence = about.starts_with(char::is_uppercase) && !about.contains('?');
            if name != "help" && (is_third_person || !is_sentence) {
                wrong.push(format!("{name}: {about}"));
            }
            let help = command.clone().term_width(80).render_help().to_string();
            wrong.extend(
                help.lines()
                    .filter(|line| line.chars().count() > 80)
                    .map(|l| format!("{name}: {l}")),
            );
            for sub in command.get_subcommands_mut() {
                check(sub, wrong);
            }
        }
        let mut wrong = Vec::new();
        let mut command = command();
        command.build();
        check(&mut command, &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn the_help_shows_the_commands_by_purpose_and_the_exit_codes() {
        let help = command().term_width(80).render_help().to_string();
        let groups: Vec<usize> = GROUPS
            .iter()
            .filter_map(|(group, names)| help.find(&format!("\n{group}:\n  {} ", names[0])))
            .collect();
        assert_eq!(groups.len(), GROUPS.len(), "{help}");
        assert!(groups.is_sorted(), "{help}");
        assert!(help.contains("--config <FILE>") && help.contains("Exit codes: 0 done"), "{help}");
    }
}
