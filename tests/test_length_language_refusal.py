"""What a row looks like from outside: lengths, languages, refusals and leaks."""

import pytest

from filters.gate import Subject
from filters.language import Language
from filters.leak import Leak
from filters.length import Length, estimate
from filters.refusal import Refusal
from leafmill.records import Row

LETTER = "I'm sorry that your parcel came late. " + "We know how much you had looked forward to it and we want to make it right. " * 12


def subject(instruction="Write a poem about the sea", answer="", language="en", input="", **known):
    return Subject("s", Row(language=language, instruction=instruction, input=input, answer=answer), **known)


async def code(gate, **known):
    verdict = await gate(subject(**known))
    assert (verdict.decision == "accept") == (verdict.code == "ok")
    return verdict.code


@pytest.mark.parametrize("instruction", ["请写一首短诗吧。", "写首诗", "Sort this list", "Explain `x`, please"])
async def test_T35_a_short_but_complete_instruction_passes(instruction):
    assert await code(Length(), instruction=instruction) == "ok"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"instruction": " …！ "}, "length.instruction_empty"),
        ({"instruction": "Go on"}, "length.instruction_short"),
        ({"instruction": "字" * 1501}, "length.instruction_long"),
        ({"answer": "It ends in the mid", "cut_off": True}, "length.cut_off"),
        ({"answer": "", "facts": {"stage": "check"}}, "length.answer_empty"),
        ({"answer": " ...\n"}, "length.answer_empty"),
        ({"answer": "word " * 6001}, "length.answer_long"),
        ({"answer": "Here:\n```python\nprint(1)"}, "length.open_fence"),
        ({"answer": "a" * 60000}, "length.tokens"),
    ],
)
async def test_each_fault_of_length_has_its_own_code(known, expected):
    assert await code(Length(), **known) == expected


@pytest.mark.parametrize("answer", ["4", "否", "✓", "+", "```python\nprint(1)\n```"])
async def test_an_answer_may_be_one_unit_or_one_symbol(answer):
    assert await code(Length(), answer=answer, facts={"stage": "check"}) == "ok"


async def test_the_shortest_answer_can_be_set_and_tokens_can_be_counted_by_a_tokenizer():
    assert await code(Length(min_answer=5), answer="Yes it is") == "length.answer_short"
    assert await code(Length(max_tokens=10, count=len), answer="Yes") == "length.tokens"
    assert estimate("写一首诗") == 4


@pytest.mark.parametrize(
    ("language", "instruction", "answer"),
    [
        ("zh", "解释这段 Python 代码中 `pd.read_csv` 的作用:\n```python\nimport pandas\nfor row in table: print(row)\n```", ""),
        ("zh", "用 Python 的 pandas 库读取 CSV 文件并打印前五行", "```python\nimport pandas\nprint(pandas.read_csv('a.csv'))\n```"),
        ("zh", "把这句话翻译成英文：今天天气很好", "The weather is very nice today, and everybody is happy."),
        ("en", "Translate this paragraph into French", "Il fait très beau aujourd'hui et tout le monde est content."),
        ("en", "Explain the meaning of the idiom 塞翁失马 with an example from daily life", ""),
        ("en", "Print x", "x"),
        ("zh", "写首诗", "OK"),
    ],
)
async def test_terms_code_and_translations_are_no_foreign_language(language, instruction, answer):
    assert await code(Language(), language=language, instruction=instruction, answer=answer) == "ok"


@pytest.mark.parametrize(
    ("language", "instruction", "answer", "expected"),
    [
        ("zh", "请介绍一下长城的历史", "The Great Wall was built over many centuries by several dynasties.", "language.mismatch"),
        ("en", "请写一首关于大海的诗", "", "language.mismatch"),
        ("zh", "请介绍一下长城", "长城是 one of the most famous walls in the world 建于 many centuries ago by 皇帝", "language.mixed"),
        ("en", "Tell me about your city", "Bonjour, ma ville est très belle et les gens y sont heureux.", "language.other"),
        ("en", "Tell me about your city", "Мой город очень красивый, и люди в нём счастливы.", "language.other"),
        ("zh", "请介绍一下你的城市", "私の町はとても美しく、人々は幸せに暮らしています。", "language.other"),
    ],
)
async def test_another_language_is_rejected_by_kind(language, instruction, answer, expected):
    assert await code(Language(), language=language, instruction=instruction, answer=answer) == expected


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("I'm sorry, but I can't help with that.", "apology"),
        ("抱歉，我无法提供这方面的信息。", "apology"),
        ("非常抱歉，这个我做不到。", "apology"),
        ("As an AI language model, I have no favourite colour.", "assistant"),
        ("作为一个人工智能语言模型，我没有个人喜好。", "assistant"),
        ("I cannot assist with this request.", "inability"),
        ("我无法为您提供实时天气。", "inability"),
        ("**Unfortunately, I am unable to open links.**", "inability"),
    ],
)
async def test_T34_a_refusal_at_the_start_is_rejected_in_both_languages(answer, kind):
    assert await code(Refusal(), answer=answer) == f"refusal.{kind}"


async def test_T34_sorry_in_a_letter_of_apology_is_kept():
    assert len(LETTER.split()) > 180
    assert await code(Refusal(), instruction="Write to a customer whose parcel came late", answer=LETTER) == "ok"


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        ("Write a short apology to a friend", "I'm sorry I missed your party. Let me make it up to you."),
        ("写一句道歉的话", "对不起，我昨天不该对你发火。"),
        ("Why do models refuse?", 'They often say "I cannot help with that", which means little.'),
        ("You act as an AI language model that greets", "As an AI language model, I greet you."),
        ("Describe AI", "Artificial intelligence is a field. As an AI grows, so does its use."),
    ],
)
async def test_what_only_looks_like_a_refusal_is_kept(instruction, answer):
    assert await code(Refusal(), instruction=instruction, answer=answer) == "ok"


async def test_an_apology_about_apologies_that_still_refuses_is_rejected():
    assert await code(Refusal(), instruction="Write an apology", answer="Sorry, I can't do that.") == "refusal.apology"


@pytest.mark.parametrize(
    ("instruction", "answer", "expected"),
    [
        ("#Rewritten Prompt#: Write a poem", "", "leak.prompt_words"),
        ("Make the given prompt harder", "", "leak.prompt_words"),
        ("改写后的指令：请写一首诗", "", "leak.prompt_words"),
        ("Write a poem<|im_end|>", "", "leak.marker"),
        ("### Instruction:\nWrite a poem", "", "leak.marker"),
        ("Here is a new task: write a poem", "", "leak.preamble"),
        ("好的，以下是新的指令：写一首诗", "", "leak.preamble"),
        ("Write a poem", "Assistant: The sea is blue", "leak.marker"),
        ("Write a poem", "</think>The sea is blue", "leak.marker"),
        ("写一首诗", "助手：大海", "leak.marker"),
    ],
)
async def test_words_of_a_prompt_are_found_in_a_row(instruction, answer, expected):
    assert await code(Leak(), instruction=instruction, answer=answer) == expected


@pytest.mark.parametrize(
    ("instruction", "input", "answer"),
    [
        ("Write a story for the given prompt", "A lost key", "Once, a key was lost."),
        ("What does `<|im_start|>` mean in a chat template?", "", "`<|im_start|>` opens a message."),
        ("Explain the prompt that a shell shows", "", "It ends in a dollar sign."),
        ("Here is my essay. Please shorten it", "", "## Summary\nShort."),
        ("请给出三条写好提示词的建议", "", "一、说清楚任务。"),
    ],
)
async def test_talk_about_prompts_is_no_leak(instruction, input, answer):
    assert await code(Leak(), instruction=instruction, input=input, answer=answer) == "ok"
