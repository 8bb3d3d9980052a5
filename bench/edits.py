"""Planted pairs: edits that leave a task what it is, and changes that make another task of it, in English and Chinese.

    edit(text, "en", "typos", random.Random(1))      # the text with a typo or a few; None where the kind does not apply
    change(text, "zh", "number", random.Random(1))   # the same words with another number; None where there is no number

An edit touches one word in ten, at least one and at most three, so that a long text is edited as much as a short one. Edits of words leave
alone what `change` changes: numbers, units, negations, languages and names, and in English what begins with a capital.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from bench.instructions import Language

NEAR = {
    "en": ("punctuation", "swaps", "words", "typos", "wraps", "synonyms"),
    "zh": ("punctuation", "swaps", "words", "typos", "wraps", "synonyms", "traditional", "width"),
}
FAR = ("number", "unit", "negation", "language", "programming", "name")

Edit = Callable[[str, random.Random], "str | None"]


def edit(text: str, language: Language, kind: str, rng: random.Random) -> str | None:
    """The text after a harmless edit, never equal to it; None where the kind does not apply."""
    made = _EDITS[language][kind](text, rng)
    return made if made and made != text else None


def change(text: str, language: Language, kind: str, rng: random.Random) -> str | None:
    """Another task in the same words: one thing of the kind changed, wherever the text says it; None where there is none."""
    made = _negation(text, language, rng) if kind == "negation" else _other(text, _CHANGES[language][kind], rng)
    return made if made and made != text else None


# What leaves the task alone.

_WORDS = re.compile(r"(?<!\S)[a-z]+(?=[ ,.;:?!])")
"""words of an English text that an edit may touch: lower case, between spaces"""
_KEEP = frozenset(
    str.split(
        "not no never without none nothing neither nor cannot except avoid leave out two three four five six seven eight nine ten eleven "
        "twelve hundred half third quarter twice dozen percent first last more less before after kg km miles hours minutes"
    )
)


def _times(text: str) -> int:
    return min(3, max(1, len(text.split()) // 10))


def _each(text: str, rng: random.Random, places: Sequence[re.Match[str]], new: Callable[[re.Match[str]], str], times: int) -> str | None:
    """The text with a few of the places rewritten, of those that no change is about."""
    kept = [match.span() for pattern in _PROTECTED for match in pattern.finditer(text)]
    places = [match for match in places if not any(start < match.end() and match.start() < end for start, end in kept)]
    if not places:
        return None
    for match in sorted(rng.sample(places, min(times, len(places))), key=lambda match: -match.start()):
        text = text[: match.start()] + new(match) + text[match.end() :]
    return text


def _free_words(text: str, longer_than: int = 0) -> list[re.Match[str]]:
    return [match for match in _WORDS.finditer(text) if match[0] not in _KEEP and len(match[0]) > longer_than]


def _punctuation(text: str, rng: random.Random) -> str | None:
    ways = [
        lambda: text.rstrip(".!?") if text[-1] in ".!?" else text + ".",
        lambda: text.rstrip(".") + rng.choice(["!", "...", " .", "!!"]),
        lambda: re.sub(r"(?<=[a-z]),(?= )", "", text),
        lambda: re.sub(r"(?<=[a-z]), ", rng.choice(["; ", " - ", ",  "]), text),
        lambda: re.sub(r"(?<=[a-z]) (?=(and|so|which|who|with|for)\b)", ", ", text, count=1),
    ]
    return rng.choice(ways)()


def _swaps(text: str, rng: random.Random) -> str | None:
    pairs = [
        match
        for match in re.finditer(r"(?<!\S)([a-z]+) ([a-z]+)(?=[ ,.;:?!])", text)
        if match[1] != match[2] and not {match[1], match[2]} & _KEEP
    ]
    return _each(text, rng, pairs, lambda match: f"{match[2]} {match[1]}", _times(text))


_FILLERS = str.split("also really just simply basically actually kindly clearly briefly then now here quite maybe always")
_DROPPED = frozenset(
    str.split("the a an that and so then please just also very it its them your of to in at on by which would should will")
)


def _words(text: str, rng: random.Random) -> str | None:
    for _ in range(_times(text)):
        small = [match for match in _free_words(text) if match[0] in _DROPPED]
        if small and rng.random() < 0.5:
            match = rng.choice(small)
            text = text[: match.start()] + text[match.end() :].lstrip(" ")
        elif free := _free_words(text):
            match = rng.choice(free)
            text = f"{text[: match.start()]}{rng.choice(_FILLERS)} {text[match.start() :]}"
    return text


def _typo(word: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(word) - 1)
    return rng.choice(
        [
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
            word[:place] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[place + 1 :],
        ]
    )


def _typos(text: str, rng: random.Random) -> str | None:
    return _each(text, rng, _free_words(text, longer_than=3), lambda match: _typo(match[0], rng), _times(text))


_WRAPS = (
    ("Please help me with this. ", ""),
    ("Could you do the following for me? ", ""),
    ("", " Thank you very much!"),
    ("Hello! ", " Thanks in advance."),
    ("Here is the task: ", ""),
    ("I have a request: ", ""),
    ("### Instruction:\n", ""),
    ("Question: ", ""),
    ("You are a helpful assistant. ", ""),
    ("", " Take your time and answer carefully."),
    ("I would like you to do this: ", ""),
    ("Hi there, I need some help. ", ""),
)


def _wraps(text: str, rng: random.Random) -> str | None:
    before, after = rng.choice(_WRAPS)
    return before + text + after


def _synonyms(text: str, rng: random.Random) -> str | None:
    def other(match: re.Match[str]) -> str:
        found = rng.choice(_SYNONYMS[match[0].lower()])
        return found.capitalize() if match[0][0].isupper() else found

    places = [match for match in re.finditer(r"\b[A-Za-z]+\b", text) if match[0].lower() in _SYNONYMS]
    return _each(text, rng, places, other, min(2, _times(text)))


def _synonym_table(groups: str) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for group in groups.split():
        words = group.replace("_", " ").split("/")
        for word in words:
            table.setdefault(word, []).extend(other for other in words if other != word)
    return table


_SYNONYMS = _synonym_table(
    "write/compose explain/describe create/make/produce suggest/propose big/large small/little begin/start short/brief quick/fast "
    "answer/reply simple/easy buy/purchase important/significant help/assist show/display find/locate happy/glad clear/plain "
    "summarize/summarise story/tale job/occupation error/mistake kids/children choose/select gather/collect total/overall "
    "mention/note list/enumerate usually/normally each/every think/believe entire/whole topic/subject people/persons "
    "finish/complete common/frequent main/principal friend/pal car/automobile money/cash"
)

_CJK = "\u4e00-\u9fff"
_ZH_KEEP = "不没无非别勿未禁一二两三四五六七八九十百千万亿零半第每元年月日号点分秒个"


def _zh_punctuation(text: str, rng: random.Random) -> str | None:
    ways = [
        lambda: text.rstrip("。！？") if text[-1] in "。！？" else text + "。",
        lambda: text.rstrip("。") + rng.choice(["！", "……", "～", "！！"]),
        lambda: re.sub(rf"(?<=[{_CJK}])，", rng.choice([" ", "；", ""]), text),
        lambda: re.sub(rf"(?<=[{_CJK}])，", "、", text, count=1),
        lambda: text.replace("：", " ").replace("，", "，\n", 1),
    ]
    return rng.choice(ways)()


def _zh_swaps(text: str, rng: random.Random) -> str | None:
    """Two clauses that trade places, or two neighbouring characters."""
    end = text[-1] if text[-1] in "。！？" else ""
    clauses = text.removesuffix(end).split("，")
    if len(clauses) > 2 and rng.random() < 0.5:
        place = rng.randrange(len(clauses) - 1)
        clauses[place], clauses[place + 1] = clauses[place + 1], clauses[place]
        return "，".join(clauses) + end
    pairs = [match for match in re.finditer(rf"(?<![^{_CJK}，。])([{_CJK}])([{_CJK}])", text) if match[1] != match[2]]
    return _each(text, rng, [match for match in pairs if _zh_free(match[0])], lambda match: match[2] + match[1], 1)


def _zh_free(part: str) -> bool:
    return not any(sign in _ZH_KEEP for sign in part)


_ZH_FILLERS = str.split("也 还 再 请 具体地 简单地 认真地 然后 可以 能够 最好 大概 其实 一定")


def _zh_words(text: str, rng: random.Random) -> str | None:
    small = list(re.finditer("的|了|请|并且|并|也|都|会|就|要|一下|进行|其中|这个", text))
    if small and rng.random() < 0.5:
        return _each(text, rng, small, lambda match: "", 1)
    clauses = [match for match in re.finditer(rf"(?:^|(?<=，))(?=[{_CJK}])", text)]
    return _each(text, rng, clauses, lambda match: rng.choice(_ZH_FILLERS), 1)


_ALIKE = _synonym_table(
    "的/地/得 在/再 做/作 以/已 那/哪 象/像 坐/座 因/应 带/戴 到/道 是/事 和/合 计/记 题/提 式/试 名/明 情/请/清 写/些 间/简 用/拥 "
    "文/闻 出/初 为/位 程/成 如/入 者/着 描/瞄 说/所 给/各 绍/召 述/叙 理/里 关/观 心/新 会/回 建/健 编/遍 数/属 词/次 语/雨 信/性 分/份"
    " 列/例 由/有"
)


def _zh_typos(text: str, rng: random.Random) -> str | None:
    places = [match for match in re.finditer(f"[{''.join(_ALIKE)}]", text) if _zh_free(match[0])]
    if places:
        return _each(text, rng, places, lambda match: rng.choice(_ALIKE[match[0]]), min(2, max(1, len(text) // 20)))
    free = [match for match in re.finditer(f"[{_CJK}]", text) if _zh_free(match[0])]
    return _each(text, rng, free, lambda match: rng.choice(["", match[0] * 2]), 1)


_ZH_WRAPS = (
    ("请帮我完成以下任务：", ""),
    ("你好，", ""),
    ("", "谢谢！"),
    ("你好！", "非常感谢。"),
    ("任务：", ""),
    ("我有一个请求，", ""),
    ("### 指令：\n", ""),
    ("问题：", ""),
    ("麻烦你帮个忙，", ""),
    ("", "请认真回答。"),
    ("我需要你的帮助。", ""),
)


def _zh_wraps(text: str, rng: random.Random) -> str | None:
    before, after = rng.choice(_ZH_WRAPS)
    return before + text + after


_ZH_SYNONYMS = _synonym_table(
    "写/撰写 编写/书写 解释/说明 讲解/阐述 描述/叙述 创建/建立 建议/提议 重要/关键 简短/简要 简单/容易 回答/答复 购买/采购 帮助/协助 "
    "展示/展现 寻找/查找 选择/挑选 收集/搜集 主题/题目 总结/概括 列出/罗列 给出/提供 制定/拟定 比较/对比 判断/判定 设计/规划 使用/采用 "
    "指出/点明 提到/提及 怎样/如何 情况/状况 原因/缘由 方法/办法 例子/实例 错误/差错 清楚/清晰 普通/寻常 主要/首要 理由/缘故 了解/知晓 "
    "返回/送回 处理/应对 变化/改变 生成/产生 翻译/转译 计算/推算 根据/按照 以下/下列"
)


def _zh_synonyms(text: str, rng: random.Random) -> str | None:
    words = sorted(_ZH_SYNONYMS, key=len, reverse=True)
    places = [match for match in re.finditer("|".join(words), text)]
    return _each(text, rng, places, lambda match: rng.choice(_ZH_SYNONYMS[match[0]]), min(2, max(1, len(text) // 20)))


def _traditional(text: str, rng: random.Random) -> str | None:
    from opencc import OpenCC  # type: ignore[import-untyped]

    return str(OpenCC("s2t").convert(text))


_FULL = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
_HALF = {ord("，"): ",", ord("。"): ".", ord("："): ":", ord("；"): ";", ord("！"): "!", ord("？"): "?", ord("（"): "(", ord("）"): ")"}


def _width(text: str, rng: random.Random) -> str | None:
    return text.translate(_FULL) if rng.random() < 0.5 else text.translate(_HALF)


_EDITS: Mapping[str, Mapping[str, Edit]] = {
    "en": {
        "punctuation": _punctuation,
        "swaps": _swaps,
        "words": _words,
        "typos": _typos,
        "wraps": _wraps,
        "synonyms": _synonyms,
    },
    "zh": {
        "punctuation": _zh_punctuation,
        "swaps": _zh_swaps,
        "words": _zh_words,
        "typos": _zh_typos,
        "wraps": _zh_wraps,
        "synonyms": _zh_synonyms,
        "traditional": _traditional,
        "width": _width,
    },
}


# What makes another task of it.

_NUMBERS = str.split("two three four five six seven eight nine ten eleven twelve fifteen twenty thirty")
_ZH_DIGITS = "二三四五六七八九"
_UNITS = (
    "km/miles kilometers/miles meters/feet metres/yards cm/inches kg/pounds kilograms/ounces grams/ounces liters/gallons minutes/hours "
    "seconds/minutes hours/days days/weeks weeks/months months/years dollars/euros $/€ $/£ °C/°F MB/GB KB/MB cents/dollars "
    "feet/inches pounds/kilograms miles/kilometers words/sentences"
)
_ZH_UNITS = (
    "公里/米 公里/英里 千米/米 厘米/毫米 米/厘米 公斤/斤 公斤/吨 千克/克 克/毫克 升/毫升 分钟/小时 分钟/秒 小时/天 天/周 个月/年 "
    "元/美元 元/角 欧元/美元 万元/元 摄氏度/华氏度 平方米/亩 字/词 页/章"
)
_TONGUES = str.split(
    "French German Spanish Italian Portuguese Russian Japanese Korean Arabic Hindi Swedish Dutch Turkish Polish English Chinese"
)
_ZH_TONGUES = str.split("法语 德语 西班牙语 意大利语 葡萄牙语 俄语 日语 韩语 阿拉伯语 瑞典语 荷兰语 土耳其语 波兰语 英语 泰语")
_CODES = str.split("Python Java JavaScript TypeScript Rust Go Kotlin Swift Ruby C++ C# PHP Scala Haskell Perl Lua R MATLAB")
_PEOPLE = str.split(
    "Maria Ahmed Yuki Oliver Fatima Lars Elena Thomas Chloe Ingrid Diego Hannah Priya Kenji Sofia Marcus Janet Josh James Tina Carlos "
    "Emily Kevin Laura Ryan Megan Peter Nadia Samuel Grace Jerry Mark Steve Raymond Mary John Alice Bob Sarah"
)
_CITIES = str.split(
    "Lisbon Chicago Nairobi Oslo Melbourne Prague Toronto Mumbai Boston Valencia Helsinki Lima Denver Kyoto Warsaw London Paris"
)
_SURNAMES = str.split("Novak Carter Singh Okafor Brightwater Nordlicht Halden Copperfield Oakridge Sunfield Lindqvist Moreau")
_ZH_PEOPLE = str.split("小明 李华 王芳 张伟 赵敏 小红 周杰 吴静 黄丽 林涛 何强 李明 小刚 王强 刘洋 陈静 小华 张敏 小李 小王 张三 李四")
_ZH_TITLED = str.split("刘老师 陈经理 孙医生 杨教授 马老师 高经理 徐医生 朱教授")
_ZH_CITIES = str.split("北京 上海 成都 西安 杭州 青岛 昆明 哈尔滨 厦门 长沙 兰州 桂林 南京 武汉 巴黎 伦敦 东京 纽约")
_ZH_COMPANIES = str.split("远航物流 北光软件 恒达汽车 铜原保险 华为 腾讯 阿里巴巴 京东 小米 百度")


def _group(words: Sequence[str], before: str = "", after: str = "") -> tuple[tuple[str, ...], re.Pattern[str]]:
    """Words of which any other may take one's place, and how one is found."""
    longest = sorted(words, key=len, reverse=True)
    return tuple(words), re.compile(rf"{before}(?:{'|'.join(map(re.escape, longest))}){after}")


def _latin(words: Sequence[str]) -> tuple[tuple[str, ...], re.Pattern[str]]:
    return _group(words, r"(?<![A-Za-z.])", r"(?![A-Za-z#+])")


Groups = Sequence[tuple[tuple[str, ...], re.Pattern[str]]]

_DIGITS = (tuple("23456789"), re.compile(r"(?<![\d.A-Za-z_])[2-9](?=\d{0,3}(?![\d.A-Za-z_]))"))

_CHANGES: Mapping[str, Mapping[str, Groups]] = {
    "en": {
        "number": [_DIGITS, _latin(_NUMBERS)],
        "unit": [
            _group(pair.split("/"), r"(?<![A-Za-z])" if pair[0] != "$" else "", r"(?![A-Za-z])" if pair[0] != "$" else r"(?=\d)")
            for pair in _UNITS.split()
        ],
        "language": [_latin(_TONGUES)],
        "programming": [_latin(_CODES)],
        "name": [_latin(_PEOPLE), _latin(_CITIES), _latin(_SURNAMES)],
    },
    "zh": {
        "number": [_DIGITS, _group(list(_ZH_DIGITS), "", "(?=[个条种道天篇点句位项步岁月年张本件只名次段首章页周小公千米])")],
        "unit": [_group(pair.split("/"), r"(?<=[\d百千万十两三四五六七八九几])", "(?![元米斤])") for pair in _ZH_UNITS.split()],
        "language": [_group(_ZH_TONGUES)],
        "programming": [_latin(_CODES)],
        "name": [_group(_ZH_PEOPLE), _group(_ZH_TITLED), _group(_ZH_CITIES), _group(_ZH_COMPANIES)],
    },
}


def _other(text: str, groups: Groups, rng: random.Random) -> str | None:
    """One thing replaced by another of its group wherever it stands, so that the text stays one task; a digit at its one place."""
    found = [(words, match) for words, pattern in groups for match in pattern.finditer(text) if _counted(words, match)]
    if not found:
        return None
    words, match = rng.choice(found)
    new = rng.choice([word for word in words if word != match[0] and not (len(words) > 2 and word in text)] or [""])
    if not new:
        return None
    if words == _DIGITS[0] or words == tuple(_ZH_DIGITS):
        return text[: match.start()] + new + text[match.end() :]
    pattern = next(pattern for group, pattern in groups if group == words)
    return pattern.sub(lambda other: new if other[0] == match[0] else other[0], text)


def _counted(words: Sequence[str], match: re.Match[str]) -> bool:
    """A unit is one where it is counted; before that, "second" and "words" are plain words."""
    units = "/".join(words) in f" {_UNITS} ".split() and words[0] != "$"
    return not units or bool(re.search(rf"(?:\d|\b(?:{'|'.join(_NUMBERS)}|many|per|an?|each|every)) ?-?$", match.string[: match.start()]))


_NEGATED: Mapping[Language, Sequence[tuple[str, str]]] = {
    "en": (
        (r"\bshould (?!not)", "should not "),
        (r"\bmust (?!not)", "must not "),
        (r"\bcan (?!not)(?=[a-z])", "cannot "),
        (r"\bwith (?=a |the |an )", "without "),
        (r"\busing ", "without using "),
        (r"(?<=, and )(?=give|end|mention|include|keep|add|use|name|list|state|close|explain|suggest|compare|point)", "do not "),
        (r"(?<=then )(?=give|end|mention|include|keep|add|use|name|list|state|close|explain|suggest|compare|point)", "do not "),
        (r"\bdo not ", ""),
        (r"\bwithout ", "with "),
        (r"\bdoes (?!not)(?=[a-z])", "does not "),
        (r"\bis (?!not)(?=a |the |an )", "is not "),
        (r"\bare (?!not)(?=[a-z]+ed )", "are not "),
    ),
    "zh": (
        ("(?<!不)(?<!需)要(?=有|用|包|写|提|在|求|给)", "不要"),
        ("(?<!不)可以(?!不)", "不可以"),
        ("(?<!不)需要", "不需要"),
        ("(?<!不)使用", "不使用"),
        ("(?<!不)包括", "不包括"),
        ("(?<!不)包含", "不包含"),
        ("(?<!没)有(?=一|两|三|几)", "没有"),
        ("不要", "要"),
        ("不发表", "发表"),
        ("在不(?=加|停|修|复|升|重|改)", "在"),
        ("都没有提到", "都提到了"),
        ("(?<![不都])是(?=一)", "不是"),
        ("(?<=，)(?:并且|并|然后|请)?(?=举出|以一|附上|多用|注明|说明|指出|加上|列出|给出|简要|至少)", "不要"),
    ),
}


_PROTECTED = [pattern for kinds in _CHANGES.values() for kind in ("unit", "language", "programming", "name") for _, pattern in kinds[kind]]


def _negation(text: str, language: Language, rng: random.Random) -> str | None:
    ways = [(match, new) for pattern, new in _NEGATED[language] for match in re.finditer(pattern, text)]
    if not ways:
        return None
    match, new = rng.choice(ways)
    return text[: match.start()] + new + text[match.end() :]
