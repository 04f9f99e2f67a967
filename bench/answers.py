"""Chat answers judged and routed: answers a second of processor time, on one core, by script and by length."""

import argparse
from collections import Counter
from collections.abc import Sequence
from random import Random

from bench import measure
from operators.chat.answers import Answers, ChatConfig
from operators.chat.phrases import read_phrases
from schemas.inbound import MAX_RECORD_BYTES, Canonical, ChatAnswer, HandoffResolved
from schemas.outbound import Decision, HandoffRequested

START = 1_767_225_600_000
STEP_MS = 20

QUESTIONS = (
    "How do I reset my password?",
    "Where is my order 48213? It was due last Friday and the tracking page has not changed since.",
    "Can I get a refund?",
    "What specific medication should I take for my rare condition?",
    "hi there",
    "I want to talk to a human",
    "Why was I charged twice? I only bought one ticket, and my bank says that both payments went through. What now?",
    "price?",
)
ANSWERS = (
    "Open Settings, choose Security and press Reset password. We'll send a link to the address that you signed up "
    "with; it stays valid for 30 minutes. If it doesn't arrive, look into the spam folder first. [confidence: high]",
    "I think your parcel left our warehouse on Monday, 12 January 2026, and it might reach you within 3 days. "
    "Sometimes the carrier updates its page late, so perhaps look again tomorrow. (confidence: 55%)",
    "Refunds are always possible within 14 days. Send the item back with the label from your account, and the amount "
    "goes to the card that you paid with as soon as the parcel is booked in, which usually takes 2 days.",
    "It depends on your plan. Several things might matter here, and I'm not sure which of them apply to you.",
    "I'm sorry, I can't help with that. Please contact our support team by phone between 9:00 and 17:00.",
    "You're welcome!",
)
TYPOGRAPHIC = tuple(text.replace("'", "\u2019").replace("; ", " \u2014 ") + " \U0001f642" for text in ANSWERS)
RUSSIAN = (
    "Откройте настройки, выберите раздел «Безопасность» и нажмите кнопку изменения пароля. Мы отправим ссылку на "
    "адрес, указанный при регистрации; она действует 30 минут. Если письмо не пришло, проверьте папку «Спам».",
)
JAPANESE = (
    "設定を開き、「セキュリティ」を選んで、パスワードのリセットを押してください。登録されたアドレスにリンクをお送りします。"
    "リンクの有効期限は30分です。届かない場合は、迷惑メールフォルダをご確認ください。",
)


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench answers", description=__doc__)
    options.add_argument("--answers", type=int, default=50_000)
    options.add_argument("--long-answers", type=int, default=100, help="how many of 60,000 characters")
    options.add_argument("--repeats", type=int, default=3)
    return options


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    rows = []
    n = options.answers
    mixed = (*ANSWERS * 4, *TYPOGRAPHIC)
    long = " ".join(ANSWERS) * (60_000 // sum(map(len, ANSWERS)))
    assert len(long) < MAX_RECORD_BYTES
    for name, texts, count in (
        ("English, one in five with typographic signs", mixed, n),
        ("English in ASCII", ANSWERS, n),
        ("English, all with typographic signs, an emoji", TYPOGRAPHIC, n),
        ("Russian", RUSSIAN, n // 4),
        ("Japanese", JAPANESE, n // 4),
        ("English, long", (long,), options.long_answers),
    ):
        events = made(texts, count)
        paths: Counter[str] = Counter()
        alone = measure.timed(lambda: judged(events), options.repeats)  # noqa: B023 - called at once
        timing = measure.timed(lambda: paths.update(routed(events)), options.repeats)  # noqa: B023 - called at once
        assert sum(paths.values()) == count * options.repeats, "every answer has one decision"
        told = " ".join(f"{letter} {100 * paths[letter] / paths.total():.0f}" for letter in "ABCDEF")
        size = sum(len(event.answer) for event in events) / count
        rates = [f"{count / seconds:,.0f}" for seconds in (alone.cpu_s, timing.cpu_s)]
        rows.append([name, f"{size:,.0f}", *rates, told])
    measure.show(
        "Chat answers a second of processor time",
        ["answers", "characters", "confidence and routing", "all of it", "paths, %"],
        rows,
        "All of it: beside confidence and routing, repeats taken out, conversations, limits and calibration kept, and "
        "decisions and hand-offs made as records.",
    )


def made(answers: Sequence[str], count: int) -> list[ChatAnswer]:
    """Return answers of a thousand conversations with eight agents."""
    rng = Random(1)
    return [
        ChatAnswer(
            f"e{i}",
            "tenant-1",
            f"session-{(who := rng.randrange(1_000))}",
            f"user-{who}",
            START + i * STEP_MS,
            f"conversation-{who}",
            f"agent-{who % 8}",
            rng.choice(QUESTIONS),
            rng.choice(answers),
            [rng.random() for _ in range(rng.randrange(7))],
            Canonical("c1", rng.random()) if i % 3 == 0 else None,
        )
        for i in range(count)
    ]


def judged(events: Sequence[ChatAnswer]) -> None:
    """Judge and route answers, one apart from the other."""
    answers = Answers(ChatConfig(), read_phrases())
    for event in events:
        answers.judge(event)


def routed(events: Sequence[ChatAnswer]) -> Counter[str]:
    """Decide on answers and count the paths. Every fourth hand-off is resolved at once."""
    answers = Answers(ChatConfig(), read_phrases())
    paths: Counter[str] = Counter()
    handoffs = 0
    for event in events:
        for record in answers.feed(event, event.ts):
            if isinstance(record, Decision):
                paths[record.letter] += 1
            elif isinstance(record, HandoffRequested):
                handoffs += 1
                if handoffs % 4 == 0:
                    about = (event.event_id, event.tenant_id, event.session_id, event.user_id, event.ts)
                    answers.feed(HandoffResolved(*about, event.conversation_id, needed=True), event.ts)
    return paths
