"""What a row looks like from outside: lengths, languages, refusals and leaks."""

import pytest

from filters.gate import Subject, judge
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


async def test_the_shortest_answer_can_be_set():
    assert await code(Length(min_answer=5), answer="Yes it is") == "length.answer_short"


def tokenizer(folder, template=None):
    """A tokenizer of a model to be trained: one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    saved = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", chat_template=template)
    saved.save_pretrained(folder)
    return str(folder)


async def test_tokens_are_counted_by_the_tokenizer_of_the_model_that_will_be_trained(tmp_path):
    row = {"instruction": "one two three", "answer": "four five"}
    plain = tokenizer(tmp_path / "plain")
    assert await code(Length(max_tokens=5, tokenizer=plain), **row) == "ok"
    assert await code(Length(max_tokens=4, tokenizer=plain), **row) == "length.tokens"


async def test_its_chat_template_is_counted_too(tmp_path):
    chat = tokenizer(tmp_path / "chat", "{% for m in messages %} <{{ m.role }}> {{ m.content }} <end>{% endfor %}")
    verdict = await Length(max_tokens=5, tokenizer=chat)(subject(instruction="one two three", answer="four five"))
    assert (verdict.code, verdict.value) == ("length.tokens", 9)


async def test_a_tokenizer_that_is_not_there_is_an_error_that_names_it(tmp_path):
    verdict = await judge(Length(tokenizer=str(tmp_path / "none")), subject())
    assert verdict.decision == "error"
    assert str(tmp_path / "none") in verdict.evidence["message"]


def test_without_one_tokens_are_estimated():
    row = Row(language="zh", instruction="写一首关于大海的诗", answer="大海啊")
    assert 12 <= estimate(row) <= 25


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
        (
            "zh",
            "编写一个程序来计算从k到n的整数之和",
            "def total(k, n):\n    found = 0\n    for i in range(k, n + 1):\n        found += i\n    return found",
        ),
        ("zh", "写出查询部门预算的语句", "SELECT d.name, d.budget FROM department d\nWHERE d.budget > 100"),
        ("zh", "找出所有和为十四的子集", "{12, 2}, {7, 3, 4}, {8, 2, 4}, {1, 13}"),
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
        ("I don't have access to the internet.", "inability"),
        ("Your request goes against my guidelines.", "inability"),
        ("I'm not comfortable writing that.", "inability"),
        ("我没有权限查看您的订单。", "inability"),
        ("您的请求违反了相关规定。", "inability"),
        ("I am Qwen, a helpful assistant.", "assistant"),
        ("I was created by OpenAI to help.", "assistant"),
        ("我是通义千问，很高兴为您服务。", "assistant"),
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
        ("My cat died and I feel sad", "I'm so sorry to hear that. Losing a pet is hard; give yourself time."),
        ("我失恋了，很难过", "很抱歉听到这个消息，给自己一点时间吧。"),
        ("Why do models refuse?", 'They often say "I cannot help with that", which means little.'),
        ("You act as an AI language model that greets", "As an AI language model, I greet you."),
        ("Write a diary entry", "I don't have a car, so I walk to work every day."),
        ("写一句话介绍自己", "我不具名地写了一封信。"),
        ("Describe AI", "Artificial intelligence is a field. As an AI grows, so does its use."),
    ],
)
async def test_what_only_looks_like_a_refusal_is_kept(instruction, answer):
    assert await code(Refusal(), instruction=instruction, answer=answer) == "ok"


async def test_sympathy_that_goes_on_to_refuse_is_rejected():
    assert await code(Refusal(), answer="I'm sorry to hear that, but I can't help you.") == "refusal.apology"


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
        ("Write a conversation about the weather", "", "User: Is it raining?\nBot: A little."),
        ("根据给定的事实编写一段对话", "", "用户：今天下雨吗？\n机器人：有一点。"),
    ],
)
async def test_talk_about_prompts_is_no_leak(instruction, input, answer):
    assert await code(Leak(), instruction=instruction, input=input, answer=answer) == "ok"
