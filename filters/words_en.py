"""English word lists and patterns of the gates: data, no code. Patterns are matched without regard to case."""

NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
    "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
    "thousand": 1000, "million": 1000000, "billion": 1000000000, "dozen": 12, "twice": 2,
}  # fmt: skip
"""words that mean a number; "one" is missing because it mostly does not ("one of the")"""

NEGATIONS = r"\b(?:not|never|no|none|nothing|without|except|neither|nor|cannot|avoid(?:ing)?|exclud(?:e|es|ing)|omit(?:ting)?)\b|n't\b"
"""one match is one negation: "do not use" and "without using" weigh the same"""

NOT_NEGATIONS = r"\bnot only\b|\bno problem\b|\bwhether or not\b|\bwhy not\b"

OPPOSITES = tuple(
    pair.split("/")
    for pair in str.split(
        "ascending/descending ascend/descend increase/decrease increasing/decreasing maximum/minimum max/min maximize/minimize "
        "largest/smallest longest/shortest highest/lowest high/low higher/lower greater/less larger/smaller more/fewer more/less "
        "most/least first/last before/after above/below encode/decode encoding/decoding encrypt/decrypt encryption/decryption "
        "compress/decompress add/remove add/subtract addition/subtraction multiply/divide insert/delete import/export "
        "upload/download read/write odd/even positive/negative true/false left/right input/output advantages/disadvantages "
        "pros/cons benefits/drawbacks strengths/weaknesses formal/informal agree/disagree for/against buy/sell hot/cold "
        "happy/sad optimistic/pessimistic possible/impossible legal/illegal include/exclude start/end open/close push/pop "
        "uppercase/lowercase upper/lower client/server active/passive singular/plural past/future summer/winter morning/evening"
    )
)
"""pairs of which one text has one and the other text the other"""

ENTITIES = frozenset(
    str.split(
        "french german spanish italian portuguese dutch russian arabic hindi japanese korean chinese mandarin cantonese english "
        "latin greek turkish polish swedish thai vietnamese indonesian hebrew persian ukrainian python java javascript typescript "
        "golang kotlin scala haskell perl ruby php sql mysql postgresql sqlite mongodb redis html css json yaml xml csv markdown "
        "latex bash powershell numpy pandas pytorch tensorflow react django flask monday tuesday wednesday thursday friday saturday "
        "sunday spring summer autumn winter"
    )
)
"""names that are names in any case; others are found by their capitals"""

STOP_WORDS = frozenset(
    str.split(
        "a an the and or but if of to in on at by for with from as is are was were be been am do does did has have had it its this "
        "that these those i you he she we they me him her us them my your his our their so then than too very can will would should "
        "could may might there here what which who whom when where why how"
    )
)
"""yes, no and not are missing: they answer something"""

REFUSED = (
    r"(?:can(?:no|')t|can not|could(?:n't| not)|won't|will not|am (?:not able|unable)|'m (?:not able|unable)|unable|not (?:able|allowed))"
)

REFUSALS = {
    "assistant": (
        r"as an? (?:ai|artificial intelligence|(?:large )?language model|virtual assistant)\b",
        r"i(?:'m| am) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    ),
    "inability": (
        rf"i(?:'m| am)? ?{REFUSED} (?:to )?(?:\w+ ){{0,2}}?(?:assist|help|provide|fulfil|fulfill|comply|complete|answer|generate|create|"
        r"write|do|support|engage|access|process|continue|offer|give|share|produce|discuss)\b",
        r"i (?:must|have to|need to) (?:respectfully )?(?:decline|refuse)\b",
        rf"(?:unfortunately|regrettably),? (?:i|we) ?{REFUSED}",
        r"(?:it is|it's) not (?:appropriate|ethical|possible for me)\b",
    ),
    "apology": (
        r"(?:i(?:'m| am) (?:(?:so|very|really|truly) )?|we(?:'re| are) )?sorry\b",
        r"(?:i|we|my) (?:sincerely )?apolog(?:ise|ize|ies)\b",
        r"apologies\b",
    ),
}
"""what a refusal starts with, by kind. An apology alone is the weakest sign: see `filters.refusal`"""

ABOUT_APOLOGY = r"apolog|\bsorry\b|\bforgive|\bregret"

PROMPT_WORDS = (
    r"#+ ?(?:the )?(?:given|rewritten|created|new|original|final rewritten) prompt ?#*(?= ?:|#)",
    r"#(?:given|rewritten|created|new|original) prompt#",
    r"\b(?:rewritten|created|evolved) (?:prompt|instruction)\b",
)
GIVEN_PROMPT = r"\b(?:the )?given prompt\b"
MARKERS = (
    r"<\|[a-z_▁|]{2,30}\|>",
    r"\[/?inst\]",
    r"<</?sys>>",
    r"</s>|<s>\s*\[",
    r"<(?:start|end)_of_turn>",
    r"(?m)^#{2,4} ?(?:instruction|response|input|output|human|assistant|user|system) ?:?\s*$",
    r"(?m)^#{2,4} ?(?:instruction|response|human|assistant) ?:",
    r"</?(?:think|thinking|rewritten_prompt|instruction|response|answer|feedback|scenario|assistant|user_query)>",
)
"""what chat templates and prompt frames are made of"""

ROLES = r"(?:assistant|ai assistant|ai|chatgpt|gpt-\d|human|user|system) ?:"
"""a speaker's name at the very start"""

PREAMBLES = (
    r"(?:sure|certainly|of course|absolutely|okay|ok|great)[,!.:]+ (?:here|i)\b",
    r"here(?:'s| is| are) (?:a|an|the|your|my|one|some|another) (?:\w+[ -]){0,4}(?:instruction|prompt|task|question|request|version)s?\b"
    r"[^.\n]{0,80}:",
    r"(?:new|rewritten|revised|evolved|improved|final|updated) (?:instruction|prompt|task|question) ?:",
    r"(?:instruction|prompt|task) ?(?:\d+ ?)?:",
)
"""how a model introduces an instruction instead of giving it"""

TRANSLATION = (
    r"\btranslat|\b(?:in|into|to|from) (?:english|chinese|mandarin|cantonese|french|german|spanish|italian|portuguese|dutch|russian|arabic|"
    r"hindi|japanese|korean|latin|greek|turkish|polish|swedish|thai|vietnamese|indonesian)\b"
)
