"""Reads what the receivers got, with the parsers of others. usage: alert_judge.py DIR"""

import email
import email.policy
import json
import pathlib
import sys
from html.parser import HTMLParser

work = pathlib.Path(sys.argv[1])
KINDS = 17


class Words(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text.append(data)


def judge_mail(raw):
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert not mail.defects, mail.defects
    for name in ("From", "To", "Date", "Subject", "Message-ID", "Auto-Submitted", "List-Id"):
        assert len(mail.get_all(name, [])) == 1, f"{name}: {mail.get_all(name)}"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Lookout-Incident"] == "142", mail["X-Lookout-Incident"]
    assert "Bcc" not in mail, "a header was injected"
    assert max(map(len, raw.split(b"\r\n"))) <= 998, "a line longer than RFC 5322 allows"
    assert len(raw) < 100_000
    if mail["X-Lookout-Severity"] == "resolved":
        assert mail["In-Reply-To"] == mail["References"], "a thread needs both"
        assert mail["In-Reply-To"].endswith(mail["Message-ID"].split("@")[1])
    parts = list(mail.iter_parts()) if mail.is_multipart() else [mail]
    text = parts[0]
    assert text.get_content_type() == "text/plain"
    for line in text.get_content().splitlines():
        assert len(line) <= 78, line
    if mail.is_multipart():
        assert mail.get_content_type() == "multipart/alternative"
        assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
        words = Words()
        words.feed(parts[1].get_content())
        assert "img" not in words.tags and "script" not in words.tags, words.tags
        assert not parts[1].defects
    return mail


mails = [judge_mail(path.read_bytes()) for path in sorted((work / "mail").iterdir())]
incidents = [mail for mail in mails if mail["To"] == "ok@example.org"]
assert len(incidents) == 2 * KINDS + 1, len(incidents)
first = [mail for mail in incidents if mail["X-Lookout-Kind"] == "run_missed"]
assert first[0]["Subject"] == first[1]["Subject"], "mail programs thread by the subject"
assert first[1]["In-Reply-To"] == first[0]["Message-ID"], "the end answers the beginning"
dropped = [mail for mail in mails if mail["To"] == "dropafter@example.org"]
assert len(dropped) == 2 and len({mail["Message-ID"] for mail in dropped}) == 1
assert dropped[1]["X-Lookout-Possible-Repeat"] == "yes"
slack = sorted((work / "slack").iterdir())
assert len(slack) == 2 * KINDS + 1, f"{len(slack)}: a message was sent again as plain text"
hooks = [json.loads(path.read_bytes()) for path in sorted((work / "hook").iterdir())]
assert len(hooks) == 2 * KINDS + 1
assert len({hook["id"] for hook in hooks}) == len(hooks)
print(f"{len(mails)} mails, {len(slack)} Slack messages, {len(hooks)} webhooks: all sound")
