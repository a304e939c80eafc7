//! A message as HTML mail.
//!
//! Tables and inline styles, because that is what mail programs draw (Outlook uses Word for it);
//! no pictures, no links, no fonts from elsewhere: nothing is fetched when it is opened. A dark
//! form for programs that ask for one.
//! Invariant: every text goes through [`escape`].

use super::{Message, words};

const FONT: &str =
    "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif";
const MONO: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace";

/// The HTML part of a mail.
#[must_use]
pub fn html(message: &Message) -> String {
    let mut body = String::new();
    body.push_str(&band(message));
    body.push_str(&lead(message));
    body.push_str(&steps(message));
    body.push_str(&facts(message));
    body.push_str(&evidence(message));
    body.push_str(&notes(message));
    body.push_str(&footer(message));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"supported-color-schemes\" content=\"light dark\">\
         <title>{title}</title><style>{DARK}</style></head>\
         <body class=\"page\" style=\"margin:0;padding:0;background:#eef0f3\">\
         <div style=\"display:none;max-height:0;overflow:hidden\">{preview}</div>\
         <table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\"><tr>\
         <td align=\"center\" style=\"padding:24px 12px\">\
         <table role=\"presentation\" width=\"600\" cellpadding=\"0\" cellspacing=\"0\" \
         class=\"card\" style=\"width:100%;max-width:600px;background:#ffffff;border-radius:10px;\
         overflow:hidden;border:1px solid #dde1e6;font-family:{FONT};color:#1c2126;\
         font-size:15px;line-height:1.5\">{body}</table></td></tr></table></body></html>\n",
        title = escape(&message.subject),
        preview = escape(&message.headline()),
    )
}

/// Colours for a dark background.
const DARK: &str = "@media (prefers-color-scheme:dark){\
    .page{background:#14171a!important}\
    .card{background:#1e2226!important;border-color:#343a41!important;color:#e6e8eb!important}\
    .quiet{color:#9aa4af!important}\
    .line{border-color:#343a41!important}\
    .code{background:#14171a!important;color:#e6e8eb!important;border-color:#343a41!important}\
    .note{background:#33291a!important;color:#f0d9b0!important;border-color:#5c4a2a!important}}";

fn row(padding: &str, inner: &str) -> String {
    format!("<tr><td style=\"padding:{padding}\">{inner}</td></tr>")
}

/// The coloured head: state and place small, what happened large.
fn band(message: &Message) -> String {
    format!(
        "<tr><td bgcolor=\"{colour}\" style=\"background:{colour};padding:20px 28px 22px;\
         color:#ffffff\"><div style=\"font-size:12px;font-weight:600;letter-spacing:.08em;\
         color:#ffffff\">{state} &nbsp;·&nbsp; {instance}{incident}</div>\
         <div style=\"font-size:21px;line-height:1.3;font-weight:650;color:#ffffff;\
         padding-top:6px\">{what}</div></td></tr>",
        colour = message.tone.colour(),
        state = escape(message.state.trim_end_matches(',')),
        instance = escape(&message.instance),
        incident = message
            .about
            .as_ref()
            .filter(|it| it.incident != 0)
            .map_or_else(String::new, |it| format!(" &nbsp;·&nbsp; incident {}", it.incident)),
        what = escape(&words::sentence(&message.what)),
    )
}

fn lead(message: &Message) -> String {
    if message.lead.is_empty() {
        return String::new();
    }
    row("22px 28px 4px", &escape(&message.lead.join(" ")))
}

fn steps(message: &Message) -> String {
    if message.steps.is_empty() {
        return String::new();
    }
    let mut inner = title("Do now");
    for (index, step) in message.steps.iter().enumerate() {
        inner.push_str(&format!(
            "<table role=\"presentation\" cellpadding=\"0\" cellspacing=\"0\" width=\"100%\"><tr>\
             <td valign=\"top\" class=\"quiet\" style=\"width:22px;padding:3px 0;color:#5f6b76\">{}.\
             </td><td style=\"padding:3px 0\">{}{}</td></tr></table>",
            index + 1,
            escape(&step.text),
            step.command.as_deref().map(command).unwrap_or_default(),
        ));
    }
    row("16px 28px 2px", &inner)
}

fn command(command: &str) -> String {
    format!(
        "<div class=\"code\" style=\"margin:5px 0 4px;padding:7px 11px;background:#f4f6f8;\
         border:1px solid #dde1e6;border-radius:6px;font-family:{MONO};font-size:13px;\
         word-break:break-word\">{}</div>",
        escape(command)
    )
}

fn facts(message: &Message) -> String {
    if message.facts.is_empty() {
        return String::new();
    }
    let mut inner = String::from(
        "<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" \
         style=\"border-collapse:collapse\">",
    );
    for (label, value) in &message.facts {
        inner.push_str(&format!(
            "<tr><td class=\"quiet line\" valign=\"top\" style=\"width:120px;padding:7px 12px 7px 0;\
             border-bottom:1px solid #e8ebee;color:#5f6b76;font-size:13px;line-height:20px\">{}</td>\
             <td class=\"line\" valign=\"top\" style=\"padding:7px 0;border-bottom:1px solid #e8ebee;\
             font-size:14px;line-height:20px\">{}</td></tr>",
            escape(label),
            escape(value)
        ));
    }
    inner.push_str("</table>");
    row("14px 28px 4px", &inner)
}

fn evidence(message: &Message) -> String {
    let mut out = String::new();
    for evidence in &message.evidence {
        let quote = format!(
            "{}<div class=\"code\" style=\"padding:10px 12px;background:#f4f6f8;\
             border:1px solid #dde1e6;border-radius:6px;font-family:{MONO};font-size:12px;\
             line-height:1.5;white-space:pre-wrap;word-break:break-word\">{}</div>",
            title(evidence.label),
            escape(&evidence.text)
        );
        out.push_str(&row("14px 28px 4px", &quote));
    }
    out
}

fn notes(message: &Message) -> String {
    let mut out = String::new();
    if let Some(by_itself) = &message.by_itself {
        out.push_str(&row("14px 28px 2px", &escape(by_itself)));
    }
    if !message.annotations.is_empty() {
        let annotations: Vec<String> =
            message.annotations.iter().map(|annotation| escape(&annotation.in_words())).collect();
        let note = format!(
            "<div class=\"note\" style=\"padding:10px 12px;background:#fdf5e6;\
             border:1px solid #f0dcb4;border-radius:6px;color:#5c4200;font-size:13px\">{}</div>",
            annotations.join("<br>")
        );
        out.push_str(&row("14px 28px 2px", &note));
    }
    out
}

fn footer(message: &Message) -> String {
    let mut lines: Vec<String> = message.footer().iter().map(|line| escape(line)).collect();
    if let Some(command) = message.ack_command() {
        lines.push(format!(
            "No more reminders: <span style=\"font-family:{MONO}\">{}</span>",
            escape(&command)
        ));
    }
    let text = format!(
        "<div class=\"quiet line\" style=\"border-top:1px solid #e8ebee;padding-top:12px;\
         color:#5f6b76;font-size:12px\">{}</div>",
        lines.join("<br>")
    );
    row("18px 28px 20px", &text)
}

fn title(text: &str) -> String {
    format!(
        "<div class=\"quiet\" style=\"padding-bottom:6px;color:#5f6b76;font-size:12px;\
         font-weight:600;letter-spacing:.04em\">{}</div>",
        escape(text)
    )
}

/// The five characters that mean something in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
