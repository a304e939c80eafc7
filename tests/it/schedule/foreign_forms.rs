//! What other programs write, and what is answered: always something that can be written here.

use lookout::schedule::cron::Expression;

/// As written, what the answer must hold.
const FORMS: [(&str, &[&str]); 45] = [
    // A zone inside the expression: supercronic, Go's cron, Kubernetes.
    ("CRON_TZ=Europe/Berlin 0 9 * * *", &["timezone = \"Europe/Berlin\"", "cron = \"0 9 * * *\""]),
    ("TZ=America/New_York 30 4 1 * *", &["timezone = \"America/New_York\"", "\"30 4 1 * *\""]),
    ("CRON_TZ=UTC @daily", &["timezone = \"UTC\"", "\"@daily\""]),
    ("0 9 * * * UTC", &["timezone = \"UTC\"", "\"0 9 * * *\""]),
    ("0 9 * * 1-5 Europe/Berlin", &["timezone = \"Europe/Berlin\"", "\"0 9 * * 1-5\""]),
    ("MAILTO=me 0 9 * * *", &["five fields"]),
    // Lines of a crontab.
    ("0 3 * * * /usr/local/bin/backup.sh", &["\"0 3 * * *\"", "argv"]),
    ("0 3 * * * root /usr/local/bin/backup.sh --all", &["\"0 3 * * *\"", "argv"]),
    ("*/5 * * * * cd /srv && ./run", &["\"*/5 * * * *\"", "argv"]),
    ("0 3 * * * backup.sh", &["\"0 3 * * *\"", "argv"]),
    ("0 3 * * * # nightly", &["`0 3 * * *`"]),
    // Quartz: seconds first, a year last.
    ("0 0 12 ? * MON-FRI *", &["`0 0 12 ? * MON-FRI`"]),
    ("0 0 12 1 1 ? 2026", &["`0 0 12 1 1 ?`", "year"]),
    ("0 0 12 ? * 2 2026-2028", &["`0 0 12 ? * 2`", "1 for Sunday"]),
    ("0 0 1 1 * 2026", &["`0 0 1 1 *`", "year"]),
    ("0 0 1 1 * 2026-2030", &["`0 0 1 1 *`", "year"]),
    // EventBridge.
    ("cron(0 10 * * ? *)", &["`0 10 * * ?`", "year"]),
    ("cron(15 12 ? * MON-FRI *)", &["`15 12 ? * MON-FRI`"]),
    ("cron(0 18 ? * 2-6 *)", &["1 for Sunday"]),
    ("0 10 * * ? *", &["`0 10 * * ?`", "year"]),
    ("15 10 1 * ? 2027", &["`15 10 1 * ?`", "year"]),
    ("rate(5 minutes)", &["`*/5 * * * *`"]),
    ("rate(1 hour)", &["`0 * * * *`"]),
    ("rate(1 day)", &["`0 0 * * *`"]),
    // systemd.
    ("Mon..Fri *-*-* 09:00:00", &["`0 9 * * MON-FRI`"]),
    ("*-*-* 04:30", &["`30 4 * * *`"]),
    ("Sun 03:15", &["`15 3 * * SUN`"]),
    ("*-*-01 04:00:00", &["minute, hour, day, month and weekday"]),
    ("hourly", &["`@hourly`"]),
    ("Daily", &["`@daily`"]),
    ("09:30", &["`30 9 * * *`"]),
    // Go's cron and others.
    ("@every 15m", &["\"*/15 * * * *\""]),
    ("@every 1h", &["\"0 * * * *\""]),
    ("@every 60m", &["\"0 * * * *\""]),
    ("@every 6h0m0s", &["\"0 */6 * * *\""]),
    ("@every 30s", &["\"*/30 * * * * *\""]),
    ("@every 24h", &["\"0 0 * * *\""]),
    ("@every 1h30m", &["continuous = true", "`*/15 * * * *`"]),
    ("@every 7m", &["continuous = true"]),
    ("@reboot", &["continuous = true", "lookout run"]),
    ("@houry", &["@hourly"]),
    ("* * * *", &["4 fields", "five"]),
    ("* * * * * * * *", &["8 fields", "five"]),
    ("5", &["1 field:", "five"]),
    ("0 22-6 * * *", &["`22-23,0-6`"]),
];

#[test]
fn what_other_programs_write_is_answered_with_what_to_write_here() {
    for (written, answers) in FORMS {
        let refusal = match Expression::parse(written) {
            Ok(_) => panic!("{written} was accepted"),
            Err(refusal) => refusal,
        };
        let said = format!("{}: {}", refusal.what.replace(written, ""), refusal.instead);
        for answer in answers {
            assert!(said.contains(answer), "{written}: {answer} is not in: {said}");
        }
    }
}

#[test]
fn an_expression_in_an_answer_is_one_that_is_accepted() {
    for (written, _) in FORMS {
        let Err(refusal) = Expression::parse(written) else { continue };
        let between =
            |mark: char| refusal.instead.split(mark).skip(1).step_by(2).map(str::to_owned);
        let five_or_six = |text: &String| (5..=6).contains(&text.split_whitespace().count());
        for text in between('`').chain(between('"')).filter(five_or_six) {
            let answer = Expression::parse(&text);
            assert!(answer.is_ok(), "{written} is answered with {text}: {answer:?}");
        }
    }
}
