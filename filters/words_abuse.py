"""Abusive words of both languages, by category: data, no code. The lists are short: only what is abusive in nearly any context is in them.

They are matched in normalised text (lower case, simplified Han, plain quotes). English entries are whole words or phrases, so names
such as Scunthorpe pass; Chinese ones hold no string that ordinary sentences make by chance (他妈逼他学习 is a mother at work).
Left out are words with an everyday meaning (retard, chink, faggot as a dish, "help sb do sth"), and what histories of persecution quote.
"""

from leafmill.records import Language

_GROUP = r"(?:jews|blacks|whites|muslims|gays|immigrants|asians|women)"
_GROUP_ZH = "(?:黑人|白人|女人|男人|穆斯林|犹太人|日本人|印度人|美国人|韩国人|河南人|东北人|上海人|外地人|同性恋)"

ABUSE: dict[str, dict[Language, tuple[str, ...]]] = {
    "threat": {
        "en": (
            r"(?:i'll|i will|i'm going to|i am going to|we'll|we will) (?:kill|murder|rape|strangle|behead) "
            r"(?:you|your (?:family|kids|children|mother|wife))",
            r"(?:go|please) (?:kill|hang) yourself",
            r"you (?:deserve|need|ought) to (?:be (?:raped|lynched|gassed|hanged)|die)",
            rf"(?:all )?{_GROUP} (?:should|must|deserve to) (?:all )?(?:die|be (?:killed|gassed|lynched|exterminated|raped))",
        ),
        "zh": (
            "(?:我|老子)(?:一定|迟早|真想|就|要|会)*(?:杀了|弄死|砍死|捅死|打死|强奸)(?:你|他|她)全家",
            "(?:我|老子)(?:一定|迟早|就|要|会)+(?:杀了|弄死|砍死|捅死|打死|强奸)(?:你|她)",
            "(?:你|你们|他们|她们)(?:怎么不|快点|赶紧|都)去死",
            "去死吧",
            f"{_GROUP_ZH}(?:们|都|全都|全|通通)*(?:该死|去死|应该(?:被)?(?:消灭|灭绝|杀光|强奸))",
        ),
    },
    "slur": {
        "en": (
            r"(?:sand ?)?n[i1!]gg(?:er|a)s?",
            r"(?:you|fucking|dirty|stupid|filthy|disgusting) (?:fag(?:got)?|chink|gook|retard|tranny|dyke|paki)s?",
            r"k[i1]kes?",
            r"sp[i1]cs",
            r"wetbacks?",
            r"gooks",
            r"(?:rag|towel)heads?",
            r"porch ?monkeys?",
            r"(?:dirty|filthy|stupid|fucking) (?:jews?|gypsies|immigrants?|mexicans?|arabs?|muslims?)",
        ),
        "zh": (
            "黑鬼",
            "尼哥(?![拉斯哥白])",
            "(?:死|臭)(?:基佬|同性恋|人妖)",
            "支那(?:猪|狗|贱)",
            "(?:高丽)棒子|棒子国",
            "日本(?:狗|猪|杂种)|小日本鬼子",
            "印度阿三",
            "绿教(?:徒|狗)",
            "河南(?:骗子|狗(?!肉))",
            "台巴子|台蛙|港灿",
            "女拳(?:婊|狗)|母狗们|国男都|蝈蝻",
        ),
    },
    "insult": {
        "en": (
            r"(?:go )?fuck (?:you|off|yourself)",
            r"mother ?fuckers?",
            r"cunts?",
            r"(?:you|stupid|fucking|dumb) (?:bitch|whore|slut)(?:es|s)?",
            r"you(?:'re| are) (?:such )?(?:a )?(?:fucking|worthless|pathetic) "
            r"(?:idiot|moron|loser|pig|animal|scum|piece of (?:shit|garbage|trash))s?",
            r"pieces? of shit|dumbfucks?|shitheads?|cocksuckers?|dipshits?",
        ),
        "zh": (
            "傻(?:逼|屄|b(?![a-z]))|煞笔|沙雕玩意",
            "(?<![a-z])(?:cnm|nmsl)(?![a-z0-9])",
            "(?<![体早])(?:操|肏|艹)(?:你|他|她)(?:妈|娘|大爷|祖宗|全家)",
            "你妈(?:逼|屄)(?![你我他她着])|你妈死了吧?[!。]?$",
            "(?:狗|贱|臭|烂)(?:婊子|娘们|逼|杂种)|死婊",
            "狗娘养",
            "王八蛋",
            "脑残(?:玩意|货|东西)",
            "(?:人渣|败类|废物|畜生)(?:东西|玩意)",
            "你(?:就是|是|这)个?(?:纯)?(?:人渣|废物|畜生|贱货|傻子|弱智|智障|脑残)",
            "不要脸的(?:东西|女人|男人|玩意)",
            "滚你妈|滚犊子",
        ),
    },
}

TALK = (
    r"\b(?:slurs?|derogatory|pejorative|racial epithets?|hate speech|offensive (?:word|term|language)s?|stop (?:saying|calling)|"
    r"(?:called|calling) (?:me|him|her|them|us)|(?:is|are) (?:racist|offensive|unacceptable|hateful)|bully(?:ing)?|harassment)\b|"
    "辱骂|侮辱性|蔑称|贬义|歧视|脏话|骂人|网络暴力|霸凌|仇恨言论|不要骂|别骂|被骂"
)
"""signs that a text speaks about abuse"""
