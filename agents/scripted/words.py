"""What the scripted model says: word banks in English and Chinese, and the speaker that makes replies of them.

A text is a pattern with slots, `{topic}`, filled from the bank of that name until none is left. The banks are large enough that
hundreds of instructions share little wording, so that filters for near-duplicates judge them as they would a real model's.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Language = Literal["zh", "en"]
Schema = Mapping[str, Any]

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{CJK}]|[^\W{CJK}]{{1,6}}|[^\w\s]")

FAVOURITES = 4
"""How many instructions, of each language, the speaker keeps coming back to."""

_INSTRUCTIONS = {"instruction", "question", "prompt", "task", "query", "problem"}
_INPUTS = {"input", "context"}
_SCENARIOS = {"scenario", "situation", "persona", "setting"}
_REASONS = {"reason", "rationale", "explanation", "critique", "feedback", "comment", "evidence", "why", "justification", "note"}
_ANSWERS = {"answer", "reasoning", "output", "response", "reply", "content", "text", "solution", "draft", "completion", "revision"}
_TOPICS = {"topic", "concept", "title", "name", "label", "subject", "skill", "keyword", "tag"}
_SCORES = ("score", "rating", "grade", "quality", "helpfulness", "correctness", "clarity", "depth", "safety", "completeness", "relevance")
_FLAWS = ("refus", "harm", "unsafe", "toxic", "duplicate", "wrong", "error", "easy", "leak", "reject", "bad", "off_topic", "ambiguous",
          "classification")  # fmt: skip
_APPROVALS = {
    "accept",
    "accepted",
    "approve",
    "pass",
    "keep",
    "yes",
    "good",
    "ok",
    "correct",
    "valid",
    "better",
    "improved",
    "more",
    "通过",
    "是",
}


_ELSEWHERE = re.compile("leave this subject|换个话题")
"""how a user who plays a part is told to turn to another topic"""


def count_tokens(text: str) -> int:
    """Tokens of a text, roughly as real tokenisers count: one a Chinese character, one for up to six letters, one a sign."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut_tokens(text: str, limit: int) -> str:
    """The first `limit` tokens of a text, as it stands."""
    end = 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number == limit:
            return text[:end]
        end = token.end()
    return text


def language_of(text: str) -> Language:
    """Chinese where there are more Chinese characters than words of letters: a JSON key or a name does not make it English."""
    chinese = len(re.findall(rf"[{CJK}]", text))
    return "zh" if chinese > len(re.findall(r"[A-Za-z]+", text)) else "en"


def find_schema(text: str) -> Schema | None:
    """The last JSON schema of an object that a prompt spells out, or None."""
    found = None
    position = text.find("{")
    while position >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, position)
        except ValueError:
            end = position + 1
        else:
            if isinstance(value, dict) and isinstance(value.get("properties"), dict):
                found = value
        position = text.find("{", end)
    return found


def embed(text: str, dimensions: int = 256) -> list[float]:
    """A unit vector: each word, and each pair of neighbouring Chinese characters, adds or takes one at a hashed place."""
    words = re.findall(rf"[^\W{CJK}]+", text.lower())
    for run in re.findall(rf"[{CJK}]+", text):
        words += [run[at : at + 2] for at in range(max(1, len(run) - 1))]
    vector = [0.0] * dimensions
    for word in words or [""]:
        drawn = int.from_bytes(hashlib.sha256(word.encode()).digest())
        vector[(drawn >> 1) % dimensions] += 1.0 if drawn & 1 else -1.0
    norm = math.hypot(*vector)
    if norm == 0:
        vector[0] = norm = 1.0
    return [one / norm for one in vector]


@dataclass
class Speaker:
    """The words of one reply: every draw comes from `rng`, so equal requests are answered in equal words."""

    rng: random.Random
    prompt: str
    duplicates: float = 0.1
    """Share of instructions, 0 to 1, that are one of the favourites instead of a fresh one."""
    told: str = ""
    """the system message, if there is one: what it is written in is spoken, whatever the material is in"""
    language: Language = field(init=False)
    words: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.language = language_of(self.told or self.prompt)
        self.words = _chinese_words(self.prompt) if self.language == "zh" else _english_words(self.prompt)

    def instruction(self) -> str:
        if self.rng.random() >= self.duplicates:
            return self._say("instruction")
        favourite = random.Random(self.rng.randrange(FAVOURITES))
        return Speaker(favourite, "的" if self.language == "zh" else "")._say("instruction")

    def reason(self) -> str:
        return self._say("reason")

    def answer(self) -> str:
        """60 to 150 English words, or 100 to 250 Chinese characters; no sentence pattern twice."""
        chinese = self.language == "zh"
        target = self.rng.randint(120, 200) if chinese else self.rng.randint(70, 125)
        patterns = self.rng.sample(BANKS[self.language]["sentence"], k=24)
        text = ""
        while (len(text) if chinese else len(text.split())) < target:
            text += ("" if chinese or not text else " ") + self._fill(patterns.pop())
        return text

    def value(self, schema: Schema, name: str = "", root: Schema | None = None) -> Any:
        """Something plausible that obeys a JSON schema; `name` is the field's, which says what to talk about."""
        root = schema if root is None else root
        if "$ref" in schema:
            target: Any = root
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            return self.value(target, name, root)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema and {*schema["enum"]} == {"A", "B", "tie"}:
            return self._preferred()
        if "enum" in schema:
            approving = [one for one in schema["enum"] if str(one).lower() in _APPROVALS]
            return self.rng.choice(approving if approving and self.rng.random() < 0.8 else schema["enum"])
        for union in ("anyOf", "oneOf", "allOf"):
            if union in schema:
                return self.value(next((one for one in schema[union] if one.get("type") != "null"), {}), name, root)
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = kinds if isinstance(kinds, str) else next((one for one in kinds if one != "null"), "null")
        match kind:
            case "object":
                made = {key: self.value(one, key, root) for key, one in schema.get("properties", {}).items()}
                if "grounded" in made:  # who judges does not contradict itself
                    made["grounded"] = not made["unsupported"]
                if made.keys() == {"reasoning", "answer"}:
                    made = {field: f"{text}\n\n{self._result}" for field, text in made.items()}
                return self._about(made) if "title" in made else made
            case "array":
                return self._items(schema, name, root)
            case "integer" | "number":
                return self._number(schema, name, whole=kind == "integer")
            case "boolean":
                return self.rng.random() < (0.08 if any(flaw in name.lower() for flaw in _FLAWS) else 0.88)
            case "null":
                return None
        return self._string(schema, name.lower())

    @cached_property
    def _result(self) -> str:
        """What thinking in steps comes to: mostly the same number, whoever is asked the same."""
        asked = re.search(r"<instruction>(.*?)</instruction>", self.prompt, re.DOTALL)
        right = random.Random(asked[1] if asked else self.prompt).randrange(10, 500)
        number = right if self.rng.random() < 0.85 else right + self.rng.randint(1, 9)
        return f"答案：{number}" if self.language == "zh" else f"Answer: {number}"

    def _preferred(self) -> str:
        """Which of two answers in a prompt is better: whichever place it has, the one whose words come later in the alphabet."""
        one, other = (re.search(rf"<answer_{letter}>(.*?)</answer_{letter}>", self.prompt, re.DOTALL) for letter in "ab")
        if one is None or other is None or one[1] == other[1]:
            return "tie"
        return "A" if one[1] > other[1] else "B"

    def _about(self, made: dict[str, Any]) -> dict[str, Any]:
        """Something with a title is described by it, and called by it."""
        subject = made["title"]
        about = (
            f"来问的是{subject}，多半急着要一个办法。"
            if self.language == "zh"
            else f"Somebody asks about {subject[:1].lower()}{subject[1:]}."
        )
        told = {"slug": re.sub(r"\W+", "-", subject.lower()), "name": re.sub(r"\W+", "-", subject.lower()), "description": about}
        return {**made, **{key: text for key, text in told.items() if key in made}}

    def _items(self, schema: Schema, name: str, root: Schema) -> list[Any]:
        """Distinct items, in number the upper half of what the schema allows; three to five where it does not say."""
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(5, least))
        size = self.rng.randint(max(least, (most + 1) // 2), most)
        singular = name[:-3] + "y" if name.endswith("ies") else name.removesuffix("s")
        if name == "nodes" and (listed := re.search(r"<nodes>\n(.+?)\n</nodes>", self.prompt, re.DOTALL)):  # each has to be told of
            return [{**self.value(schema["items"], "", root), "name": line.partition(":")[0]} for line in listed[1].splitlines()]
        items: list[Any] = []
        if name == "unsupported" and self.rng.random() < 0.9:  # most of what is said from a document stands in it
            return items
        for spare in reversed(range(20 * size)):
            item = self.value(schema.get("items", {}), singular, root)
            if item not in items or spare < least - len(items):
                items.append(item)
            if len(items) == size:
                break
        return items

    def _number(self, schema: Schema, name: str, *, whole: bool) -> float:
        """Between the bounds, 1 to 5 where there are none: mostly high for what is named as a score, else anywhere."""
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 5) - 1)
        if name.lower().endswith(_SCORES):
            share = self.rng.choices((1.0, 0.75, 0.5, 0.25), weights=(38, 42, 15, 5))[0]
        else:
            share = self.rng.random()
        drawn: float = low + share * (high - low)
        return round(drawn) if whole else round(drawn, 3)

    def _string(self, schema: Schema, name: str) -> str:
        last = name.rsplit("_", 1)[-1]
        if last in _INSTRUCTIONS:
            text = self.instruction()
        elif last in _INPUTS:
            text = "" if self.rng.random() < 0.6 else self._say("input")
        elif last in _ANSWERS:
            text = self.answer()
        elif last == "message" and not _ELSEWHERE.search(self.prompt):
            text = self._say("follow_up")
        elif last == "message":
            text = self.instruction()
        else:
            bank = "scenario" if last in _SCENARIOS else "topic" if last in _TOPICS else "reason" if last in _REASONS else "sentence"
            text = self._say(bank)
        while len(text) < schema.get("minLength", 0):
            text = f"{text} {self._say('sentence')}".strip()
        return text[: schema.get("maxLength")]

    def _say(self, bank: str) -> str:
        return self._fill(self.rng.choice(BANKS[self.language][bank]))

    def _fill(self, pattern: str) -> str:
        while "{" in pattern:
            pattern = re.sub(r"\{(\w+)\}", self._slot, pattern)
        return pattern[:1].upper() + pattern[1:]

    def _slot(self, slot: re.Match[str]) -> str:
        match slot[1]:
            case "n":
                return str(self.rng.randint(3, 9))
            case "big":
                return str(self.rng.randint(11, 980))
            case "year":
                return str(self.rng.randint(1875, 2024))
            case "word" if self.words:
                return self.rng.choice(self.words)
            case "word":
                return "{topic}"
            case "Task" | "Limit":
                text = self.rng.choice(BANKS[self.language][slot[1].lower()])
                return text[:1].upper() + text[1:]
        return self.rng.choice(BANKS[self.language][slot[1]])


def _english_words(prompt: str) -> list[str]:
    return sorted({word.lower() for word in re.findall(r"[A-Za-z]{5,}", prompt)})


def _chinese_words(prompt: str) -> list[str]:
    """Runs of characters between the commonest function words: near enough to words to sound on topic."""
    runs = re.split(rf"[^{CJK}]|[的了和是在与及等为请用把对不一个这那你我它他们出以并或中上下每其有]", prompt)
    return sorted({run for run in runs if 2 <= len(run) <= 5})


def _bank(text: str) -> list[str]:
    return [one.strip() for one in text.replace("\n", " ").split("|") if one.strip()]


ENGLISH = {
    "instruction": _bank("""
{Task}. {Limit} | {setting}, {task}. {Limit} | {Task}. | {setting}, {task}. | {name} from {place} asks: could you {task}? {Limit} |
{Limit} {Task}. | You are {who}. {Task}. {Limit} | {Task}, then {task}. | {Task}. {Limit} {Limit}
"""),
    "task": _bank("""
explain {topic} to {who} | write a dialogue in which {who} and {who} quarrel over {topic} | draft a checklist that covers {topic} |
list {n} common misunderstandings about {topic} | estimate what {topic} would cost in {year} | outline a lesson about {topic} |
compose a limerick inspired by {topic} | weigh the arguments for and against {topic} | turn {topic} into a bedtime story |
design an experiment that tests a claim about {topic} | rank {n} remedies for trouble with {topic} |
invent a riddle whose solution is {topic} | predict how {topic} will change within {big} years | pitch a documentary on {topic} |
debug the reasoning of {who} who misread {topic} | summarise {topic} as a telegram | build a timeline of {topic} since {year} |
interview an imaginary {name} regarding {topic} | propose a budget of {big} dollars around {topic} | define the vocabulary behind {topic} |
contrast {topic} with {topic} | defend an unpopular opinion about {topic} | sketch a flow chart describing {topic} |
calculate how long {name} needs for {topic} at {big} units an hour | translate the essentials of {topic} into plain speech |
find the flaw in a proverb concerning {topic} | advise {who} who just inherited {topic} | review a fictitious book on {topic} |
prepare {n} quiz items on {topic} | narrate a day shaped by {topic} | classify the sorts of {topic} known in {place} |
argue like a lawyer that {topic} deserves protection | describe {topic} using only what can be heard or smelt |
recommend three starting points for {who} curious about {topic} | reconstruct why {name} gave up on {topic} |
write an apology letter from {who} about {topic} | formulate a hypothesis linking {topic} and {topic} |
create a packing list for travellers studying {topic} | simplify a technical memo on {topic} |
tell how {topic} reached {place} | plan a workshop of {n} hours around {topic} | write a product description that mentions {topic} |
analyse who gains and who loses from {topic} | imagine {topic} without electricity | name the measurements needed to judge {topic} |
write a toast that refers to {topic} | set up an equation that models {topic} | rewrite a dull headline about {topic} in {n} ways
"""),
    "topic": _bank("""
tidal power stations | sourdough starters | queue discipline in printers | binary search over rotated lists | migrating storks |
compound interest | glacier retreat | chess endgames with rooks | the grammar of sign languages | copper etching | jury selection |
vaccine cold chains | bicycle gear ratios | medieval guild rules | photosynthesis in shade plants | cache invalidation | rooftop gardens |
the siege of Vienna | probability of shared birthdays | noise from wind turbines | library fines | knitting patterns | red-black trees |
coral bleaching | tax brackets | violin varnish | black holes | tenant deposits | regular expressions | the silk trade | sleep debt |
elevator scheduling | beetle wings | haiku translation | Newton's cooling law | ferry timetables | prime gaps | antibiotic resistance |
stage lighting | quantum tunnelling | postal codes | olive harvests | spreadsheet circular references | desert irrigation | jazz phrasing |
landslide warnings | matrix inversion | bread riots | fog signals | memory leaks | wedding seating plans | bat echolocation |
the gold standard | parking meters | Unicode normalisation | salt marshes | opera subtitles | insulin dosing | bridge resonance |
carpooling apps | cuneiform tablets | maple syrup grading | database deadlocks | school lunch menus | volcanic lightning | origami folds |
inflation baskets | lighthouse keepers | graph colouring | wool dyeing | hospital triage | fermented cabbage | satellite debris |
election thresholds | clockwork toys | peat bogs | password managers | mangrove nurseries | sonnet metre | concrete curing | bus lanes |
Roman aqueducts | linear regression outliers | earthquake drills | perfume notes | patent claims | frog calls | street chess hustlers |
two-phase commit | kite aerodynamics | museum loans | dice fairness | tea auctions | cable cars | soil acidity | rumour spreading |
water towers | vowel harmony | emergency radios | orbital transfers
"""),
    "who": _bank("""
a night-shift nurse | a retired mason | a nine-year-old | a puzzled mayor | an amateur astronomer | a bus driver | a goat farmer |
a first-year apprentice | a sceptical accountant | a deaf pianist | an exchange student | a harbour pilot | a beekeeper | a chess coach |
a village librarian | a startup founder | a marathon runner | a hotel cook | a blind hiker | a patent clerk | a volunteer firefighter |
a radio host | a wedding florist | a lighthouse guide | a junior tester | an insurance adjuster | a ballet teacher | a crane operator |
a tired parent | a botanist | a court interpreter | a stamp collector | a ski instructor | a data engineer | a street musician |
a dairy inspector | a crossword editor | a plumber | a midwife | a glider pilot
"""),
    "limit": _bank("""
Stay below {big} words. | Use exactly {n} sentences. | Avoid every technical term. | Finish with an open question. |
Include one worked number near {big}. | Mention {name} once. | Set the scene in {place}. | Give sources a sceptic could check. |
Put the surprising part first. | Show your steps. | Use a table with {n} rows. | Write in the second person. | No adjectives, please. |
Add a counterexample. | Make the final line rhyme. | Treat {year} as the present. | Say which assumption is weakest. |
Offer a cheaper alternative as well. | Keep the humour dry. | Suppose half the budget vanishes. | Quote a grandmother. |
Assume the reader distrusts statistics. | Number each point. | State how certain you are. | Begin with a definition. |
Compare it to cooking. | Do not use the letter z. | Include pseudocode. | Mind readers who are colour-blind. | Round to the nearest {n}. |
Explain any symbol you introduce. | End on a warning. | Consider the situation in {place} too. | Leave out history. |
Give the opposite view one paragraph. | Name two risks and how to notice them early. | Write it as a letter to {name}. |
Use metric units throughout. | It should fit on a postcard. | Prefer short verbs.
"""),
    "setting": _bank("""
while the ferry to {place} is delayed | before tomorrow's exam | for the parish newsletter of {place} | as a favour to {name} |
during a power cut | in the margin of a map | for a podcast recorded in {place} | at the request of {who} | with {n} minutes to spare |
for an archive opened in {year} | over breakfast with {who} | as part of a bet with {name} | on a poster for commuters |
when the internet is down in {place} | for a jury of laymen | in front of {big} sleepy pupils | after reading only the first page |
for a museum label | at a town meeting in {place} | on the back of an envelope | for the yearly report of {name} and sons |
as an entry in a ship's log | inside a mock trial | for children in a waiting room
"""),
    "name": _bank("""
Ottilie | Kwame | Saoirse | Dmitri | Ximena | Bartholomew | Aiko | Fatou | Lorenzo | Ingrid | Rashid | Wanda | Tomasz | Priya | Cosmo |
Beatrix | Hamza | Juniper | Viktor | Noor | Esteban | Philippa | Goran | Leilani | Rufus | Yael | Casimir | Thandiwe | Magnus | Odette
"""),
    "place": _bank("""
Tromsø | Valparaíso | Mombasa | Ghent | Osaka | Winnipeg | Tbilisi | Cork | Jaipur | Hobart | Izmir | Recife | Gdańsk | Da Nang | Oaxaca |
Uppsala | Aleppo | Bern | Kumasi | Dunedin | Bologna | Almaty | Galway | Cebu | Tartu | Fez | Lima | Sofia | Perth | Zagreb
"""),
    "scenario": _bank("""
{who} in {place} has {n} hours left to sort out {topic} | {name}, {who}, must explain {topic} to the neighbours |
a mistake about {topic} made in {year} comes to light in {place} | {who} hires {name} to improve {topic} |
{big} visitors arrive in {place} because of {topic} | {who} doubts what {who} said about {topic}
"""),
    "input": _bank("""
{name}: {big}; {name}: {big}; {name}: {big} | Minutes of the meeting in {place}: {name} reported {big} cases linked to {topic}. |
In {year}, {who} noted that {topic} and {topic} had been confused {n} times. | Stock: {big} crates, {big} lids, {n} labels, sent to {place}.
"""),
    "follow_up": _bank("""
You mentioned {word}; how does that change if there are only {n} of them? | And what would you do about {word} with {big} dollars less? |
Why does that depend on {word} at all? | Could you show the step about {word} once more, for {who}? |
In my case it concerns {topic} in {place}. Does what you said about {word} still hold? | That part on {word} surprises me: since {year}? |
If I leave out {word}, which of those points falls first? | Then how would {name} have to deal with {word}, if this took {n} weeks? |
What speaks against it, as far as {word} goes? | Which of the two matters more for {topic}, this or {word}?
"""),
    "reason": _bank("""
It answers what was asked about {word} and keeps to the limits. | The point on {word} is sound, though brief. |
Clear, specific and easy to check against {word}. | The step from {word} to {word} is well explained. |
Good structure; the remark on {word} could go deeper. | Nothing in it contradicts {word}. | The wording of {word} is precise. |
It stays on {word} and invents no facts. | A reader would know what to do about {word}. | One detail of {word} is missing, the rest holds.
"""),
    "sentence": _bank("""
The quickest way into {word} is to look at a single case and follow it from start to end. |
Most people meet {word} first through {topic}, and the comparison is not a bad one. |
In {place}, {name} kept notes on {word} for {n} years and found a steady pattern. |
What matters is less the size of {word} than the order in which things happen. |
If {word} seems odd, ask what would be left without {word}. |
A useful check is to change one thing, say {word}, and to see whether the result still stands. |
Around {big} of every thousand attempts go wrong, mostly because nobody wrote down {word}. |
Start by separating {word} from {word}; they are often mixed up. |
The second step takes longer, since {word} depends on what came before. |
Think of {topic}: there, too, a small delay early on becomes a long one later. |
Someone like {who} would notice the gap at once and ask about {word}. |
Records from {year} describe the same thing in other terms. |
That leaves the question of {word}, which has {n} reasonable answers. |
None of this needs special tools beyond patience and a pencil. |
When in doubt, choose the option that can be undone, and come back to {word} afterwards. |
There is one exception, and it concerns {topic}. |
Numbers help here: with {big} as the starting point, a tenth of it is already enough. |
The usual advice about {word} is right in spirit but too general to act upon. |
It follows that {word} should be settled before anyone discusses {topic}. |
A short example makes this plain: {name} had {n} boxes, lost one, and still met the deadline. |
Both sides have a point, yet only the claim about {word} can be tested. |
Keep the list short, because a long one hides {word} from view. |
Afterwards, compare the outcome with what was expected, and write the difference down. |
For a beginner the hardest part is to see that {word} and {topic} share a cause. |
Costs fall quickly at first and then hardly at all, which is typical for {topic}. |
Whoever repeats this in {place} should allow for the weather and for local habits. |
Two details are easily overlooked, namely {word} and the time of day. |
So the answer is yes, provided that {word} is left as it is. |
Put differently, {word} sets the pace and everything else adapts. |
The last thing to do is also the simplest: tell the others what was decided about {word}.
"""),
}

CHINESE = {
    "instruction": _bank("""
请{task}。{limit} | {setting}，{task}。{limit} | {task}。 | {setting}，请你{task}。 | {place}的{name}想请教：能否{task}？{limit} |
{limit}{task}。 | 假设你是{who}，{task}。{limit} | 先{task}，再{task}。 | {task}。{limit}{limit}
"""),
    "task": _bank("""
向{who}讲清楚{topic} | 写一段{who}与{who}围绕{topic}的争论 | 拟一份涉及{topic}的核对清单 | 列举{n}条关于{topic}的常见误解 |
估算{year}年{topic}的开销 | 为{topic}设计一节公开课 | 以{topic}为题作一首打油诗 | 权衡{topic}的利与弊 | 把{topic}改编成睡前故事 |
构思一个能检验{topic}相关说法的实验 | 给{topic}出现的毛病排出{n}种补救办法 | 编一则谜底是{topic}的谜语 | 预测{big}个月后{topic}的走向 |
策划一部讲述{topic}的纪录片 | 指出{who}在理解{topic}时的推理漏洞 | 用电报体概括{topic} | 梳理{year}年以来{topic}的大事年表 |
虚构一次就{topic}对{name}的专访 | 用{big}元预算安排{topic} | 解释{topic}背后的术语 | 比较{topic}和{topic}的异同 |
为一个关于{topic}的冷门观点辩护 | 描绘{topic}的流程图并配文字 | 算一算{name}以每小时{big}件的速度完成{topic}要多久 |
将{topic}的要点翻成大白话 | 挑出一句涉及{topic}的俗语里的毛病 | 给刚接手{topic}的{who}提建议 | 评论一本虚构的{topic}专著 |
出{n}道有关{topic}的小测验 | 叙述被{topic}打乱的一天 | 归纳{place}一带{topic}的种类 | 像律师那样论证{topic}值得保护 |
只凭听觉和嗅觉描写{topic} | 为好奇{topic}的{who}推荐三个入门方向 | 推测{name}放弃{topic}的缘由 | 代{who}写一封谈及{topic}的道歉信 |
提出一个把{topic}与{topic}联系起来的假说 | 替考察{topic}的旅客准备行李单 | 精简一份谈{topic}的技术备忘录 |
讲述{topic}怎样传到{place} | 规划{n}小时的{topic}工作坊 | 撰写一则提到{topic}的商品文案 | 分析{topic}让谁受益、让谁吃亏 |
设想停电时的{topic} | 说明评判{topic}需要测量哪些量 | 起草一段借{topic}发挥的祝酒词 | 给{topic}列方程 | 把{topic}的乏味标题改写成{n}个版本
"""),
    "topic": _bank("""
潮汐发电 | 老面发酵 | 打印队列调度 | 旋转数组的二分查找 | 候鸟迁徙 | 复利 | 冰川消退 | 车兵残局 | 手语语法 | 铜版蚀刻 | 陪审员遴选 |
疫苗冷链 | 自行车齿比 | 行会规矩 | 喜阴植物光合作用 | 缓存失效 | 屋顶菜园 | 安史之乱 | 生日悖论 | 风机噪声 | 图书逾期罚款 | 毛衣花样 |
红黑树 | 珊瑚白化 | 个税级距 | 小提琴漆料 | 黑洞视界 | 租房押金 | 正则表达式 | 丝路贸易 | 睡眠负债 | 电梯调度 | 甲虫鞘翅 | 俳句翻译 |
牛顿冷却定律 | 轮渡时刻 | 素数间隙 | 抗生素耐药 | 舞台灯光 | 量子隧穿 | 邮政编码 | 橄榄采收 | 表格循环引用 | 沙漠滴灌 | 爵士乐句 |
滑坡预警 | 矩阵求逆 | 粮价风波 | 雾笛 | 内存泄漏 | 喜宴座次 | 蝙蝠回声定位 | 金本位 | 路边停车收费 | 字符归一化 | 盐沼湿地 | 昆曲字幕 |
胰岛素剂量 | 桥梁共振 | 拼车软件 | 甲骨卜辞 | 枫糖分级 | 数据库死锁 | 食堂菜谱 | 火山闪电 | 折纸 | 物价篮子 | 守塔人 | 图着色 |
蓝印花布 | 急诊分诊 | 四川泡菜 | 卫星碎片 | 选举门槛 | 发条玩具 | 泥炭沼泽 | 密码管理器 | 红树林育苗 | 律诗平仄 | 混凝土养护 |
公交专用道 | 都江堰 | 回归离群点 | 地震演练 | 香水前调 | 专利权利要求 | 蛙鸣 | 胡同象棋 | 两阶段提交 | 风筝升力 | 馆藏外借 |
骰子公平性 | 普洱拍卖 | 缆车 | 土壤酸碱 | 谣言扩散 | 水塔 | 元音和谐 | 应急电台 | 变轨
"""),
    "who": _bank("""
夜班护士 | 退休瓦匠 | 九岁孩子 | 犯愁的镇长 | 业余天文迷 | 公交司机 | 养羊户 | 头年学徒 | 多疑的会计 | 失聪琴师 | 交换生 | 引航员 | 蜂农 |
棋院教练 | 乡村图书员 | 创业者 | 马拉松选手 | 酒店厨师 | 盲人登山客 | 专利审查员 | 义务消防员 | 电台主播 | 婚礼花艺师 | 导游 | 测试新人 |
保险理赔员 | 舞蹈老师 | 塔吊工 | 疲惫的家长 | 植物学者 | 法庭口译 | 集邮者 | 滑雪教员 | 数据工程师 | 街头歌手 | 奶站质检员 | 填字编辑 |
水管工 | 助产士 | 滑翔机飞行员
"""),
    "limit": _bank("""
篇幅控制在{big}字以内。 | 恰好写{n}句话。 | 别用任何行话。 | 以一个问句收尾。 | 其中要出现接近{big}的算例。 | 顺带提到{name}一次。 |
场景放在{place}。 | 注明可供查证的来源。 | 最意外的部分放开头。 | 写出推导步骤。 | 附一张{n}行的表。 | 全程用第二人称。 | 不许用形容词。 |
补充一个反例。 | 末句须押韵。 | 把{year}年当作今天。 | 说出最脆弱的前提。 | 另给一个更省钱的方案。 | 幽默要含蓄。 | 假如经费砍半呢？ |
引用一句外婆的话。 | 读者不信统计数字。 | 逐条编号。 | 标出你的把握有几成。 | 从定义讲起。 | 拿烹饪打比方。 | 避开“非常”二字。 |
包含伪代码。 | 顾及色弱读者。 | 结果四舍五入到{n}的倍数。 | 新符号都要解释。 | 结尾给出警告。 | 兼顾{place}的情形。 | 历史背景略去。 |
留一段给反方意见。 | 点明两种风险及早期征兆。 | 采用写给{name}的书信体。 | 单位一律公制。 | 一张明信片要能写下。 | 多用短句。
"""),
    "setting": _bank("""
开往{place}的渡轮晚点了 | 明早就要考试 | 应{place}街道小报之约 | 算是帮{name}一个忙 | 正赶上停电 | 写在地图空白处 | 为{place}录制的播客 |
受{who}之托 | 只剩{n}分钟 | 为{year}年开放的档案室 | 与{who}吃早饭时 | 作为和{name}打的赌 | 印在通勤海报上 | {place}断网期间 |
面对外行评委 | 对着{big}个犯困的学生 | 只读过第一页 | 为博物馆展签 | 在{place}居民会上 | 趁信封背面还有空 | 写进{name}商行年报 |
仿航海日志 | 模拟法庭里 | 给候诊的孩子
"""),
    "name": _bank("""
欧阳漱石 | 阿依古丽 | 谭小满 | 司徒远 | 巴特尔 | 柳依依 | 钱九斤 | 卓玛 | 邓阿福 | 诸葛瑾瑜 | 麦冬 | 苏合 | 岑夏 | 段云亭 | 韦一笑 |
贺兰雪 | 庞大海 | 闻人静 | 鲁冬至 | 叶知秋 | 佟掌柜 | 宗泽 | 翟七巧 | 甘棠 | 仇长亮 | 尹春申 | 向晚 | 裴勇 | 蒲松 | 梅若寒
"""),
    "place": _bank("""
漠河 | 泉州 | 喀什 | 景德镇 | 北海 | 阆中 | 敦煌 | 大理 | 绍兴 | 丹东 | 平遥 | 乌镇 | 林芝 | 佛山 | 凤凰 | 威海 | 承德 | 西昌 | 黄山 |
呼伦贝尔 | 厦门 | 赤水 | 安阳 | 吐鲁番 | 舟山 | 宜昌 | 腾冲 | 开封 | 三亚 | 齐齐哈尔
"""),
    "scenario": _bank("""
{place}的{who}只剩{n}小时处理{topic} | 身为{who}的{name}得向邻里解释{topic} | {year}年在{topic}上犯的错如今在{place}被翻出来 |
{who}聘请{name}改进{topic} | {big}名游客因{topic}涌入{place} | {who}怀疑另一位{who}对{topic}的说法
"""),
    "input": _bank("""
{name}：{big}；{name}：{big}；{name}：{big} | {place}会议纪要：{name}报告了{big}起与{topic}有关的情况。 |
{year}年，一位{who}记下{topic}和{topic}被混淆了{n}次。 | 库存：{big}箱、{big}个盖子、{n}张标签，发往{place}。
"""),
    "follow_up": _bank("""
你提到{word}，如果只有{n}个，那会有什么不同？ | 那要是预算少{big}元，{word}该怎么安排？ | 为什么这一点取决于{word}？ |
刚才讲{word}的那一步，能不能换成{who}听得懂的说法？ | 我的情况跟{place}的{topic}有关，你说的{word}还成立吗？ |
关于{word}的那部分让我意外，是从{year}年开始的吗？ | 如果去掉{word}，上面哪一点最先站不住？ |
那{name}处理{word}要是拖{n}周，会出什么事？ | 就{word}来说，这样做有什么坏处？ | 对{topic}来说，这个和{word}哪个更要紧？
"""),
    "reason": _bank("""
围绕{word}作答，也守住了限制。 | {word}这一点站得住，只是略短。 | 表述清楚具体，可以对照{word}核实。 | 从{word}到{word}的过渡讲得明白。 |
结构不错，{word}还能再深入。 | 没有与{word}相矛盾之处。 | 对{word}的措辞准确。 | 紧扣{word}，没有编造事实。 | 读者知道该如何处理{word}。 |
{word}缺一个细节，其余成立。
"""),
    "sentence": _bank("""
要理解{word}，最快的办法是盯住一个例子，从头跟到尾。 | 多数人最早是通过{topic}接触到{word}的，这个类比并不坏。 |
{name}在{place}连续{n}年记录{word}，发现了稳定的规律。 | 关键不在于{word}的大小，而在于事情发生的先后。 |
若觉得{word}古怪，不妨想想缺了它会剩下什么。 | 可以只改动{word}这一处，再看结论是否依然成立。 |
每千次尝试里约有{big}次失手，多半是因为没人写下{word}。 | 首先把{word}同{word}分开，二者常被混为一谈。 |
第二步更费时，因为{word}取决于前面的结果。 | 想想{topic}：那里也是开头的小耽搁拖成后来的大延误。 |
换作{who}，会立刻看出缺口，并追问{word}。 | {year}年的记载用另一套说法描述过同样的现象。 | 剩下{word}的问题，合理的答案有{n}种。 |
这些都不需要特殊工具，有耐心和一支铅笔就够。 | 拿不准时，选那个可以反悔的方案，之后再回头看{word}。 | 例外只有一个，与{topic}有关。 |
数字能帮上忙：以{big}为起点，它的十分之一便已足够。 | 关于{word}的老生常谈大体没错，只是太笼统，难以照办。 |
由此可见，应当先敲定{word}，再谈{topic}。 | 举个小例子：{name}有{n}只箱子，丢了一只，仍旧按期交货。 |
双方各有道理，可惟有{word}的说法能够验证。 | 清单要短，太长反而遮住了{word}。 | 事后把结果与预期对照，将差别记下来。 |
对初学者而言，最难的是看出{word}跟{topic}同出一源。 | 成本起初降得快，随后几乎不动，{topic}向来如此。 |
谁要是在{place}重做一遍，得考虑天气和当地习惯。 | 有两处细节容易忽略，即{word}与时辰。 | 所以答案是肯定的，前提是{word}保持原样。 |
换句话说，{word}决定节奏，其余随之调整。 | 最后一步也最简单：告诉大家{word}是怎么定下来的。
"""),
}

BANKS: dict[Language, dict[str, list[str]]] = {"en": ENGLISH, "zh": CHINESE}
