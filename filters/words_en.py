"""English word lists and patterns of the gates: data, no code. Patterns are matched without regard to case."""

NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
    "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
    "thousand": 1000, "million": 1000000, "billion": 1000000000, "dozen": 12, "twice": 2, "half": 0.5, "third": 3, "fourth": 4,
    "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
"""words that mean a number; "one" is missing because it mostly does not ("one of the")"""

NEGATIONS = frozenset(
    str.split("not never no none nothing nobody without except neither nor cannot avoid avoiding exclude excludes excluding omit omitting")
)
"""each is one negation, and so is n't: "do not use" and "without using" weigh the same"""

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

UNITS = {
    word: group.split("/")[0]
    for group in str.split(
        "km/kilometer/kilometers/kilometre/kilometres/kms mile/miles/mi m/meter/meters/metre/metres cm/centimeter/centimeters/centimetre/"
        "centimetres mm/millimeter/millimeters/millimetre/millimetres foot/feet/ft inch/inches yard/yards/yd kg/kilogram/kilograms/kilo/"
        "kilos/kgs g/gram/grams mg/milligram/milligrams pound/pounds/lb/lbs/£/gbp ounce/ounces/oz ton/tons/tonne/tonnes liter/liters/litre/"
        "litres ml/milliliter/milliliters/millilitre/millilitres gallon/gallons pint/pints cup/cups teaspoon/teaspoons/tsp tablespoon/"
        "tablespoons/tbsp second/seconds/sec/secs minute/minutes/min/mins hour/hours/hr/hrs day/days week/weeks month/months "
        "year/years decade/decades century/centuries dollar/dollars/$/usd euro/euros/€/eur yen/jpy yuan/rmb/cny/¥ cent/cents rupee/rupees "
        "percent/% celsius/°c/°celsius fahrenheit/°f/°fahrenheit kelvin kb/kilobyte/kilobytes mb/megabyte/megabytes gb/gigabyte/gigabytes "
        "tb/terabyte/terabytes bit/bits byte/bytes hz/hertz khz/kilohertz mhz/megahertz ghz/gigahertz watt/watts kw/kilowatt/kilowatts "
        "acre/acres hectare/hectares mph kph/kmh word/words sentence/sentences paragraph/paragraphs page/pages line/lines "
        "character/characters degree/degrees"
    )
    for word in group.split("/")
}
"""a unit's names -> its first one"""
PLAIN_UNITS = frozenset(
    str.split(
        "km mile cm mm inch kg mg ounce liter ml gallon minute hour dollar euro yen celsius fahrenheit kelvin kb mb gb tb byte "
        "percent cent gram pint teaspoon tablespoon acre hectare hkd m2 km2 m3 kw"
    )
)
"""those that are units without a number before them, too; the others may be plain words (foot, second, line)"""

LANGUAGES = frozenset(
    str.split(
        "french german spanish italian portuguese dutch russian arabic hindi japanese korean chinese mandarin cantonese english "
        "latin greek turkish polish swedish norwegian danish finnish czech hungarian romanian bengali urdu tamil malay swahili thai "
        "vietnamese indonesian hebrew persian ukrainian"
    )
)
PROGRAMMING = frozenset(
    str.split(
        "python java javascript typescript golang kotlin scala haskell perl ruby php sql rust swift go r c c++ c# matlab lua julia fortran "
        "cobol lisp prolog erlang elixir clojure dart groovy bash powershell assembly vba"
    )
)
ENTITIES = frozenset(
    str.split(
        "python java javascript typescript golang kotlin scala haskell perl php sql mysql postgresql sqlite mongodb redis html css json "
        "yaml xml csv markdown matlab fortran cobol latex bash powershell numpy pandas pytorch tensorflow react django flask "
        "monday tuesday "
        "wednesday thursday friday saturday sunday spring summer autumn winter"
    )
)
"""with LANGUAGES, names that are names in any case; others are found by their capitals"""

FIRST_NAMES = frozenset(
    str.split(
        "james john robert michael william david richard joseph thomas charles daniel matthew anthony mark steven paul andrew joshua "
        "kenneth kevin brian george edward ronald timothy jason jeffrey ryan jacob gary nicholas eric jonathan stephen larry justin scott "
        "brandon benjamin samuel gregory frank alexander raymond patrick jack dennis jerry tyler aaron jose adam henry nathan "
        "douglas zachary "
        "peter kyle walter ethan jeremy harold keith christian roger noah gerald carl terry sean austin arthur lawrence jesse dylan bryan "
        "joe jordan billy bruce albert willie gabriel logan alan juan wayne roy ralph randy eugene vincent russell louis bobby "
        "philip johnny "
        "mary patricia jennifer linda elizabeth barbara susan jessica sarah karen lisa nancy betty margaret sandra ashley kimberly emily "
        "donna michelle carol amanda dorothy melissa deborah stephanie rebecca sharon laura cynthia kathleen amy angela shirley "
        "anna brenda "
        "pamela emma nicole helen samantha katherine christine debra rachel carolyn janet catherine maria heather diane ruth julie olivia "
        "joyce virginia victoria kelly lauren christina joan evelyn judith megan andrea cheryl hannah jacqueline martha gloria teresa ann "
        "sara madison frances kathryn janice jean abigail alice julia judy sophia grace denise amber doris marilyn danielle beverly "
        "isabella theresa diana natalie brittany charlotte marie kayla alexis lori tom tim bob bill jim mike dave dan sam ben max leo luke "
        "jake josh matt nick alex chris tony steve greg jeff ted fred ken ron don ray kate lucy molly tina gina wendy carla carlos diego "
        "luis pedro miguel ahmed ali omar fatima aisha priya raj ravi anita mei li wei yuki kenji hiro ivan olga elena boris lars ingrid "
        "sven hans greta pierre sofia marco luca giulia nina claire oliver lily mia ella zoe chloe jenny jill jane nora toby kim tom"
    )
)
"""names that are names at the start of a sentence too, where every word has a capital"""

NAMED = frozenset(
    str.split(
        "is was has had will can does did wants wanted needs needed likes liked loves buys bought sells sold makes made earns earned works "
        "worked lives lived goes went gets got gives gave takes took eats ate runs ran plays played reads spends spent decides decided "
        "starts started plans planned and owns owned pays paid saves saved collects collected"
    )
)
"""words after which the word before, at the start of a sentence, is a name, if it is no stop word"""

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
        r"i(?:'m| am) (?:chatgpt|claude|qwen|gemini|deepseek|llama|kimi),",
        r"i(?:'m| am| was) (?:a model )?(?:created|developed|trained|made) by (?:openai|anthropic|google|meta|alibaba|deepseek)\b",
    ),
    "inability": (
        rf"i(?:'m| am)? ?{REFUSED} (?:to )?(?:\w+ ){{0,2}}?(?:assist|help|provide|fulfil|fulfill|comply|complete|answer|generate|create|"
        r"write|do|support|engage|access|process|continue|offer|give|share|produce|discuss)\b",
        r"i (?:must|have to|need to) (?:respectfully )?(?:decline|refuse)\b",
        rf"(?:unfortunately|regrettably),? (?:i|we) ?{REFUSED}",
        r"i (?:do not|don't) (?:have (?:the (?:ability|capability)|access to|real-time|personal (?:opinions|feelings|experiences|beliefs))|"
        r"feel comfortable)\b",
        r"i(?:'m| am) not comfortable\b",
        r"(?:this|that|your) (?:request|question|prompt) (?:violates|goes against|is (?:against|inappropriate|outside))",
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

SYMPATHY = r"(?:i(?:'m| am) )?(?:(?:so|very|really|truly) )?sorry (?:to hear|for (?:that|your|you)|about (?:that|your)|you|that you)\b"
"""an apology that is none"""

DIALOGUE = r"\b(?:dialog(?:ue)?|conversation|chat|interview|script|role[- ]?play|screenplay|debate)s?\b"
"""what is asked for where an answer may begin with a speaker's name"""

PROMPT_WORDS = (
    r"#+ ?(?:the )?(?:given|rewritten|created|new|original|final rewritten) prompt ?#*(?= ?:|#)",
    r"#(?:given|rewritten|created|new|original) prompt#",
    r"\b(?:rewritten|created|evolved) (?:prompt|instruction)\b",
    r"add one more demand on the answer|trade-off or an edge case of its main point|in place of its most general word|"
    r"check that takes one more step of thought|a few more lines of data or code that matter|brand-new, rarer request",
)
"""of rewriting prompts in general, and what our own evolver is told to change"""
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

HANGING = (
    "the", "an", "of", "and", "or", "but", "nor", "because", "although", "whereas", "while", "unless", "if", "from", "into", "between",
    "among", "during", "their", "your", "its", "my", "our", "his", "very", "such as", "as well as", "due to", "is", "are", "was", "were",
    "be", "been", "has", "have", "will", "would", "should", "could", "can", "may", "might", "must", "who", "whose", "every", "each of",
)  # fmt: skip
"""words that no sentence of prose ends on, or hardly any"""

KEYWORDS = (
    r"\b(?:images?|graphs?|pictures?|photos?|photographs?|screenshots?|files?|maps?|draw|plot|videos?|audio|flow ?charts?|diagrams?)\b",
    r"\bgo to\b",
    r"https?://|\bwww\.",
)
"""what a model that reads and writes text alone cannot be given or give (the lists of Self-Instruct and Alpaca)"""
PROGRAM = r"(?:please )?write (?:a|the|me a) (?:short |simple |small )?program\b"
"""how too many machine-made instructions begin"""
PASSAGE = (
    r"\b(?:the|this|that|given|above|following|provided|source) (?:passage|excerpt|extract)\b",
    r"\b(?:the|this|given|provided) (?:text|document|article|context)\b(?! (?:of|editor|file|processor|message|box|field|window))",
    r"\b(?:mentioned|described|stated|given|listed) (?:above|below|in the (?:text|document|article))\b",
)
"""how a text speaks of a passage that its reader may not have"""

SPEAKERS = r"^[ >*_#-]*(?:user|human|assistant|ai assistant|chatbot)\W{0,3}:"
"""a line that begins with a speaker's name"""

SERVES = (
    r"^(?:certainly|of course|sure|absolutely)[!,.]+ ?(?:here|i(?:'d| would|'ll| will| can)|let me)\b|\b(?:how|what(?: else)?) (?:can|"
    r"may) i "
    r"(?:help|assist|do for) ?(?:you)?\b|anything else (?:that )?i can|(?:glad|happy) to (?:help|assist)|\bi hope (?:this|that) helps|"
    r"feel free to (?:ask|reach)|let me know if you (?:have|need)|\byou(?:'re| are) (?:very |most )?welcome\b|"
    r"^(?:great|good|excellent) question\b|\bas an? (?:ai|language model)\b"
)
"""what only who helps would say"""

ASKS = (
    r"(?:(?:can|could|would|will) you (?:please |kindly )?(?:help me|teach me|show me|write me|recommend me)|(?:please )?help me\b|"
    r"how (?:do|can|should|could) i\b|what should i\b|i(?:'d| would) like you to|i need (?:your |some )?help)"
)
"""how a message begins of who wants help"""

BACK = (
    r"\byou(?:'ve| have)? (?:just )?(?:said|say|mention(?:ed)?|wrote|suggest(?:ed)?|told|gave|listed|described|explained|"
    r"recommend(?:ed)?)\b|"
    r"\byour (?:answer|reply|example|suggestion|explanation|advice|list|plan|version|draft|code|solution|point|formula|last|first|"
    r"second)\b|"
    r"\b(?:as|from|the|like) (?:above|before|previous|earlier)\b|\bearlier you\b|\b(?:the )?(?:first|second|third|fourth|last|next|"
    r"previous) (?:one|step|point|option|part|paragraph|line|sentence|method|approach|way|example|version)\b|\bstep \d|\bgo(?:ing)? back to"
)
"""words that point at what was said"""

ANAPHORA = (
    r"\b(?:it|its|this|these|those|they|them|their|one|ones|both|either|neither|mine|hers|yours|theirs|the same|again|instead|"
    r"otherwise)\b|\bthat(?: one|'s|,|\?|\.| is| was| would|"
    r" does| work| mean| case| way| part| step| point)|\b(?:do|does|did|about|than|like|with|for|of|on|to|after|before) that\b|"
    r"^(?:and|but|so|then|or|also|okay|ok|hmm|why|how come|what if|what about|how about|what else|wait|really|in that case)\b"
)
"""words that stand for something said before"""

CLOSING = (
    r"(?:and |so |ok(?:ay)? |great |perfect |well )?(?:many |again )?(?:thanks|thank you|thx|cheers)(?: (?:so|very) much| a lot|"
    r" a million| again|"
    r" once more)?(?: (?:to you )?for .{2,60})?|(?:and )?(?:good ?bye|bye(?: bye| for now)?|see you(?: \w+){0,2}|take care|"
    r"talk to you (?:later|"
    r"soon))|(?:and )?have an? (?:nice|good|great|lovely|wonderful) \w+(?: \w+)?|(?:i think )?that(?:'s| is|'ll be| will be) (?:all|"
    r"everything|"
    r"it)(?: for (?:now|today)| i (?:need|needed|wanted)(?: to know)?)?|(?:i have )?no (?:more|further|other) questions?(?: for now)?|"
    r"(?:you(?:'ve| have) been|(?:this|that|it) (?:was|is|has been)) (?:very |really |so |super |extremely )?helpful|i appreciate (?:it|"
    r"your .*)"
)
"""a clause that ends a conversation"""

POLITE = (
    r"(?:and |but |oh )?(?:ok(?:ay)?|great|perfect|all ?right|got it|i see|understood|cool|nice|good|sure|wonderful|excellent|awesome|"
    r"yes|no|right|"
    r"that helps(?: a lot)?|(?:that|it) makes sense(?: now)?|i understand(?: now)?|(?:i think )?i(?:'m| am) (?:all )?(?:set|good)(?: now)?|"
    r"i(?:'ll| will) (?:try|do|remember|keep) (?:it|that|this)(?: .{2,30})?|(?:that|this) (?:was|is) (?:great|perfect|clear|useful|good))"
)
"""a clause that says nothing more"""

PLAIN_WORDS = frozenset(
    str.split(
        "about after again all also always another any anything ask because been before being best better between both bring call case "
        "come "
        "could day different does doing done each easy else enough even ever every example explain few find first get getting give given "
        "go "
        "goes going good great happen help here into just keep kind know last later least less let like little long look lot made make "
        "makes "
        "making many maybe mean means more most much need needs never new next not nothing now okay old only other out over own part "
        "people "
        "please possible question quite rather really right same say see seem should show simple since small some someone something still "
        "such sure take tell than thank thanks thing things think though three through time today together too try trying two under until "
        "use used using usually want wants way ways week well while whole without work works would write year years yes yet"
    )
)
"""words that stand in any conversation"""

DECLINES = (
    r"\b(?:can ?not|can't|could not|couldn't|unable to|not able to|(?:do not|don't) have|have no|there(?:'s| is) no|not available|"
    r"not possible|"
    r"isn't (?:available|possible|something)|no (?:tool|way|function|access)|outside (?:of )?what)\b"
)
"""what an answer says that cannot do what is asked, for want of a tool"""
ASKS_BACK = r"\b(?:please (?:tell|give|share|provide|let|specify|send)|let me know|could you|can you|i(?:'ll| will)? (?:still )?need)\b"
"""what asks for something that a request has left out"""
MONTHS = str.split("jan feb mar apr may jun jul aug sep oct nov dec")
"""how their names begin"""

AT_REASONING = (
    r"\b(?:as|from|in|per|see|by|given|based on|according to|following)(?: (?:shown|explained|described|seen|noted|worked out|reasoned|"
    r"said))?"
    r"(?: (?:in|by|from))? (?:my|the|this|that) (?:above |previous |earlier |step-by-step )?(?:reasoning|chain of thought|thought process|"
    r"thinking|scratchpad)\b|\b(?:my|the) (?:reasoning|thinking|thought process|steps) (?:above|shows?|showed)\b|\breasoning field\b"
)
"""how an answer points at what was thought before it"""

CONCLUDES = "so|thus|hence|therefore|result is|total is|answer is|gives|makes|equals|is"
"""words before the result, in a last line"""
