"""What the facts say to each question of the guide: a verdict, and the number that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from genus.plan.guide.facts import LIMIT, Facts, Labels, Pile
from genus.report.chart import short

MASKED = 0.15  # of the tokens are targets of a masked model (Devlin et al. 2019)
TOKENS_PER_PARAMETER, PASSES = 20, 4  # Hoffmann et al. 2022; Muennighoff et al. 2023
FEW = 32  # rows of a class, below which the seed decides as much as the method
MANY = 10_000  # rows from which the labels alone may be enough
CHINESE = 0.1  # share of Chinese characters from which a text counts as Chinese
OTHER = 0.7  # labels that take so much shorter tokens than the pile are of another kind
UNEVEN = 3.0  # the commonest class against the rarest
WRITES = ("sequence", "conversation")  # tasks whose answer is a text of any length
POINTS = ("tagging", "questions")  # tasks whose answer is a place in the text


@dataclass(frozen=True)
class Text:
    """One sentence in both languages."""

    en: str
    zh: str

    def __getitem__(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True)
class Finding:
    """What a rule says of these facts: the verdict, and the reason with its number."""

    verdict: Text
    reason: Text


def written_for(labels: Labels | None) -> bool:
    """Whether the answer is a text."""
    return labels is not None and labels.task in WRITES


def per_class(labels: Labels) -> int | None:
    """Rows of the rarest class."""
    return min(labels.classes.values()) if labels.classes else None


def counting(facts: Facts) -> Finding | None:
    pile = facts.pile
    if pile is None:
        return None
    return Finding(
        Text("an n-gram stands beside every network", "每个网络都与 n-gram 并列"),
        Text(
            f"{short(pile.tokens)} tokens are counted in seconds to minutes; a network that does not beat the counts "
            "is not worth its time",
            f"{short(pile.tokens)} 个词元，统计只需几秒到几分钟；胜不过计数的网络不值得训练",
        ),
    )


def size(facts: Facts) -> Finding | None:
    pile = facts.pile
    if pile is None:
        return None
    most = PASSES * pile.tokens / TOKENS_PER_PARAMETER
    return Finding(
        Text(f"at most about {short(most)} parameters", f"参数量最多约 {short(most)}"),
        Text(
            f"{PASSES} passes over {short(pile.tokens)} tokens are {short(PASSES * pile.tokens)}, and a parameter wants about "
            f"{TOKENS_PER_PARAMETER}; genus plan measures where the best size lies below that",
            f"{short(pile.tokens)} 个词元读 {PASSES} 遍共 {short(PASSES * pile.tokens)}，每个参数约需 {TOKENS_PER_PARAMETER} 个；"
            "最佳大小由 genus plan 实测",
        ),
    )


def masked(facts: Facts) -> Finding | None:
    pile, labels = facts.pile, facts.labels
    if labels is None:
        if pile is None or pile.pairs:
            return None
        return Finding(
            Text("causal", "因果（从左到右）"),
            Text(
                "there are no labels: 0 rows. A causal model gives a text a probability and continues it; of "
                f"{short(pile.tokens)} tokens a masked one predicts {short(MASKED * pile.tokens)} in a pass, and can do neither",
                f"没有标注（0 行）。因果模型给出文本概率并能续写；{short(pile.tokens)} 个词元中掩码模型每遍只预测 "
                f"{short(MASKED * pile.tokens)} 个，两样都做不到",
            ),
        )
    if written_for(labels):
        return Finding(
            Text("causal, or spans", "因果，或片段还原"),
            Text(
                f"{labels.rows:,} rows ask for a text ({labels.task}), and a masked model writes none",
                f"{labels.rows:,} 行要求写出文本（{labels.task}），掩码模型不能生成",
            ),
        )
    if labels.task in POINTS or labels.two:
        what = "two texts in a row" if labels.two else labels.task
        what_zh = "每行两段文本" if labels.two else labels.task
        verdict = Text("masked first, causal beside it", "先试掩码，再与因果比较")
        reason = Text(
            f"{what}: seeing both sides was worth 87.9 against 77.8 on SQuAD and 86.5 against 77.5 on MRPC, same size and data",
            f"{what_zh}：同样大小与数据下，双向对单向在 SQuAD 为 87.9 比 77.8，MRPC 为 86.5 比 77.5",
        )
    else:
        verdict = Text("both", "两者都比")
        reason = Text(
            "one text in a row: seeing both sides was worth only 92.6 against 92.1 on SST-2, same size and data",
            "每行一段文本：同样大小与数据下，双向对单向在 SST-2 只是 92.6 比 92.1",
        )
    if pile is not None:
        masked = MASKED * pile.tokens
        reason = Text(
            f"{reason.en}. Of your {short(pile.tokens)} tokens a causal model predicts all in a pass, "
            f"a masked one {short(masked)}",
            f"{reason.zh}。您的 {short(pile.tokens)} 个词元，因果模型每遍全部预测，掩码模型只预测 {short(masked)} 个",
        )
    return Finding(verdict, reason)


def shape(facts: Facts) -> Finding | None:
    pile, labels = facts.pile, facts.labels
    if labels is not None and labels.task == "sequence":
        length = "" if labels.answer is None else f" of {labels.answer.median:,.0f} {labels.answer.unit} (median)"
        return Finding(
            Text("encoder–decoder, with a decoder beside it", "编码器–解码器，并与解码器比较"),
            Text(
                f"{labels.rows:,} sources and targets{length}: attention over the source keeps long sentences, "
                "which one vector loses",
                f"{labels.rows:,} 对源文与目标：对源文的注意力能保住长句，单个向量则会丢失",
            ),
        )
    if labels is not None and labels.task == "conversation":
        return Finding(
            Text("decoder", "解码器"),
            Text(
                f"{labels.rows:,} conversations: a decoder writes the answer after all that was said before",
                f"{labels.rows:,} 段对话：解码器在全部前文之后写出回答",
            ),
        )
    if labels is None and pile is not None and pile.pairs:
        return Finding(
            Text("encoder–decoder", "编码器–解码器"),
            Text(f"{pile.documents:,} pairs of source and target", f"{pile.documents:,} 对源文与目标"),
        )
    if labels is not None:
        return Finding(
            Text("encoder, ELMo and decoder", "编码器、ELMo 与解码器"),
            Text(
                f"{len(labels.classes) or 'no'} classes in {labels.rows:,} rows: the answer is read off the vectors, "
                "which all three give; which are best at this size is measured",
                f"{labels.rows:,} 行、{len(labels.classes)} 个类别：答案从向量读出，三者都能给出；这个规模下谁最好要靠实测",
            ),
        )
    if pile is not None:
        return Finding(
            Text("decoder and recurrent", "解码器与循环网络"),
            Text(
                f"{pile.documents:,} documents and no task: only the probability of text counts",
                f"{pile.documents:,} 篇文档、没有任务：只看文本概率",
            ),
        )
    return None


def labels(facts: Facts) -> Finding | None:
    labels = facts.labels
    if labels is None:
        return None
    rarest = per_class(labels)
    few = labels.rows if rarest is None else rarest
    shown = f"{labels.rows:,} rows" if rarest is None else f"{rarest:,} rows of the rarest of {len(labels.classes)} classes"
    shown_zh = f"{labels.rows:,} 行" if rarest is None else f"{len(labels.classes)} 个类别中最少的一类有 {rarest:,} 行"
    if few < FEW:
        return Finding(
            Text("frozen features and LoRA beside full tuning, 5 seeds", "冻结特征与 LoRA 并列于全量微调，5 个种子"),
            Text(
                f"{shown}, fewer than {FEW}: seeds move the result as much as methods do; read the spread, not the best run",
                f"{shown_zh}，少于 {FEW}：随机种子的影响不亚于方法；要看离散程度，不看最好一次",
            ),
        )
    if labels.rows >= MANY:
        return Finding(
            Text("full tuning; training from the labels alone beside it", "全量微调，并与仅用标注训练比较"),
            Text(
                f"{labels.rows:,} rows, {MANY:,} or more: what pre-training saves in labels is largest when they are few",
                f"{labels.rows:,} 行，不少于 {MANY:,}：标注越少，预训练节省越多",
            ),
        )
    return Finding(
        Text("full tuning, with LoRA and frozen features beside it", "全量微调，并与 LoRA、冻结特征比较"),
        Text(
            f"{shown}, between {FEW} of a class and {MANY:,} in all: 100 labels with pre-training "
            "matched 10 to 100 times as many without",
            f"{shown_zh}，介于每类 {FEW} 与总数 {MANY:,} 之间：有预训练时 100 条标注可抵没有时的 10 至 100 倍",
        ),
    )


def ratio(facts: Facts) -> Finding | None:
    pile, labels = facts.pile, facts.labels
    if pile is None or labels is None or labels.tokens is None:
        return None
    ratio = pile.tokens / max(1.0, labels.tokens)
    if ratio < 1:
        verdict = Text("little to expect from pre-training on this pile", "这堆文本的预训练收益有限")
    else:
        verdict = Text("pre-train on the pile, then tune", "先在文本堆上预训练，再微调")
    return Finding(
        verdict,
        Text(
            f"the pile has {ratio:,.1f} times the {short(labels.tokens)} tokens of the labelled texts",
            f"文本堆是标注文本（{short(labels.tokens)} 个词元）的 {ratio:,.1f} 倍",
        ),
    )


def balance(facts: Facts) -> Finding | None:
    labels = facts.labels
    if labels is None or len(labels.classes) < 2:
        return None
    counts = list(labels.classes.values())
    top = next(iter(labels.classes))
    share, uneven = max(counts) / sum(counts), max(counts) / min(counts)
    macro = Text("macro-F1 before accuracy", "先看宏平均 F1，再看准确率")
    verdict = Text("accuracy", "准确率") if uneven <= UNEVEN else macro
    return Finding(
        verdict,
        Text(
            f"always saying {top!r} is right in {share:.0%}, which every model must beat; "
            f"the commonest class is {uneven:.1f} times the rarest",
            f"总答 {top!r} 的准确率为 {share:.0%}，任何模型都须超过它；最多的类是最少的 {uneven:.1f} 倍",
        ),
    )


def length(facts: Facts) -> Finding | None:
    labels, pile = facts.labels, facts.pile
    texts = labels.lengths if labels else pile.lengths if pile else None
    if texts is None:
        return None
    name, name_zh = ("labelled texts", "标注文本") if labels else ("documents", "文档")
    unit_zh = "词元" if texts.unit == "tokens" else "字符"
    numbers = f"{name}: half have at most {texts.median:,.0f} {texts.unit}, 95 % at most {texts.high:,.0f}"
    numbers_zh = f"{name_zh}：一半不超过 {texts.median:,.0f} 个{unit_zh}，95% 不超过 {texts.high:,.0f}"
    if texts.unit == "characters":
        return Finding(
            Text("give DATA to count in tokens", "给出 DATA 才能按词元计数"),
            Text(f"{numbers}; contexts are counted in tokens", f"{numbers_zh}；上下文按词元计"),
        )
    if texts.over > 0.05:
        verdict = Text(
            "models without a limit (ELMo, LSTM, linear attention) beside attention",
            "无长度上限的模型（ELMo、LSTM、线性注意力）与注意力比较",
        )
        tail = f"{texts.over:.0%} are longer than {LIMIT}, and would lose their end in an encoder of {LIMIT} positions"
        tail_zh = f"{texts.over:.0%} 超过 {LIMIT}，在 {LIMIT} 个位置的编码器里会被截断"
    else:
        context = 1 << max(5, int(texts.high - 1).bit_length())
        verdict = Text(f"attention; a context of {context} is enough", f"注意力；上下文 {context} 足够")
        tail, tail_zh = f"{texts.over:.1%} are longer than {LIMIT}", f"超过 {LIMIT} 的占 {texts.over:.1%}"
    return Finding(verdict, Text(f"{numbers}; {tail}", f"{numbers_zh}；{tail_zh}"))


def language(facts: Facts) -> Finding | None:
    pile, labels = facts.pile, facts.labels
    shares = [side.chinese for side in (pile, labels) if side is not None]
    if not shares:
        return None
    differs = pile is not None and labels is not None and (pile.chinese > CHINESE) != (labels.chinese > CHINESE)
    numbers, numbers_zh = _share_words(pile, labels)
    if differs:
        return Finding(
            Text("another pile, or a base from elsewhere", "换一堆文本，或用别处的预训练模型"),
            Text(
                f"{numbers}: they are different languages, and pre-training helps where the texts are alike",
                f"{numbers_zh}：语言不同，而预训练只在文本相近时有益",
            ),
        )
    if max(shares) > CHINESE:
        return Finding(
            Text("whole words are masked", "整词掩码"),
            Text(
                f"{numbers}: single characters are easy to guess from the rest of their word",
                f"{numbers_zh}：单个汉字容易由同词其余字猜出",
            ),
        )
    if pile is not None and labels is not None and labels.bytes_per_token is not None:
        fit = labels.bytes_per_token / pile.bytes_per_token
        if fit < OTHER:
            return Finding(
                Text("look for text that is more like the labels", "找与标注更相近的文本"),
                Text(
                    f"the pile's tokenizer needs {1 / fit:.1f} times as many tokens for a byte of the labelled texts "
                    f"({labels.bytes_per_token:.2f} bytes per token against {pile.bytes_per_token:.2f})",
                    f"同样字节数，标注文本要用文本堆分词器 {1 / fit:.1f} 倍的词元（每词元 {labels.bytes_per_token:.2f} 字节，"
                    f"文本堆为 {pile.bytes_per_token:.2f}）",
                ),
            )
    return Finding(
        Text("nothing special", "无须特别处理"),
        Text(f"{numbers}: words are apart", f"{numbers_zh}：词与词分开书写"),
    )


def _share_words(pile: Pile | None, labels: Labels | None) -> tuple[str, str]:
    sides = [(pile, "the pile", "文本堆"), (labels, "the labelled texts", "标注文本")]
    found = [(side.chinese, en, zh) for side, en, zh in sides if side is not None]
    english = " and ".join(f"{share:.0%} of the characters of {en}" for share, en, _ in found) + " are Chinese"
    return english, "，".join(f"{zh}的汉字占 {share:.0%}" for share, _, zh in found)


def prompting(facts: Facts) -> Finding | None:
    pile, labels = facts.pile, facts.labels
    if pile is None or labels is None:
        return None
    most = PASSES * pile.tokens / TOKENS_PER_PARAMETER
    if most < 1e9:
        verdict = Text("measured, not hoped for", "照样实测，但别指望")
    else:
        verdict = Text("a serious rival", "有力的竞争者")
    return Finding(
        verdict,
        Text(
            f"this pile can train about {short(most)} parameters; examples in the prompt began to pay at some billions",
            f"这堆文本约可训练 {short(most)} 参数；提示中的示例要到数十亿参数才开始见效",
        ),
    )
