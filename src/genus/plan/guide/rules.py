"""Which models a pile of text and a handful of labels call for: rules with the number that each rests on, and its paper.

A rule has a general form (when, then) and a particular one, which it finds in the facts. All of them only say what to measure:
`genus plan` and `genus tune --compare` do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from genus.plan.guide import findings
from genus.plan.guide.facts import LIMIT, Facts
from genus.plan.guide.findings import FEW, MANY, PASSES, TOKENS_PER_PARAMETER, UNEVEN, Finding, Text


@dataclass(frozen=True)
class Rule:
    """A question, its general answer, and where that comes from.

    Attributes:
        name: for JSON. find: the particular answer; None when the facts say nothing about it.
    """

    name: str
    question: Text
    when: Text
    then: Text
    paper: str
    find: Callable[[Facts], Finding | None]


RULES = (
    Rule(
        "masked",
        Text("masked or causal", "掩码还是因果"),
        Text("an answer is read off the text / a text is to be written", "答案从文本读出 / 要写出文本"),
        Text("masked (both sides are seen), and causal beside it / causal", "掩码（看到两侧），并与因果比较 / 因果"),
        "Devlin et al. 2019, table 5; Clark et al. 2020",
        findings.masked,
    ),
    Rule(
        "shape",
        Text("encoder, decoder or both", "编码器、解码器还是两者"),
        Text("labels or tags / continuation, conversation / a source and a target", "类别或标记 / 续写、对话 / 源文与目标"),
        Text("encoder, ELMo and decoder / decoder / encoder–decoder", "编码器、ELMo 与解码器 / 解码器 / 编码器–解码器"),
        "Bahdanau et al. 2015; Vaswani et al. 2017; Peters et al. 2018; Raffel et al. 2020",
        findings.shape,
    ),
    Rule(
        "counting",
        Text("counting", "计数"),
        Text("always", "总是"),
        Text("an n-gram beside the networks, a bag of words beside the tuned models", "n-gram 与网络并列，词袋与微调模型并列"),
        "Chen and Goodman 1998; Wang and Manning 2012",
        findings.counting,
    ),
    Rule(
        "size",
        Text("size", "大小"),
        Text("N tokens of text", "N 个词元"),
        Text(f"at most about {PASSES} N / {TOKENS_PER_PARAMETER} parameters", f"参数最多约 {PASSES} N / {TOKENS_PER_PARAMETER}"),
        "Hoffmann et al. 2022; Muennighoff et al. 2023",
        findings.size,
    ),
    Rule(
        "labels",
        Text("how many labels", "标注数量"),
        Text(f"fewer than {FEW} of a class / more / {MANY:,} rows in all", f"每类少于 {FEW} / 更多 / 总数 {MANY:,} 行以上"),
        Text(
            "frozen and LoRA beside full, many seeds / full / from the labels alone may do",
            "冻结与 LoRA 并列于全量、多种子 / 全量 / 仅用标注也可能够",
        ),
        "Howard and Ruder 2018, figure 3; Peters, Ruder and Smith 2019; Mosbach et al. 2021",
        findings.labels,
    ),
    Rule(
        "pile",
        Text("pile against labels", "文本堆与标注之比"),
        Text("more unlabelled text than labelled", "无标注文本多于标注文本"),
        Text("pre-train on it first", "先在其上预训练"),
        "Dai and Le 2015; Gururangan et al. 2020",
        findings.ratio,
    ),
    Rule(
        "balance",
        Text("what to look at", "看哪个指标"),
        Text(
            f"the commonest class has more than {UNEVEN:.0f} times the rows of the rarest", f"最多的类超过最少的 {UNEVEN:.0f} 倍"
        ),
        Text("macro-F1 before accuracy; the majority class is in every table", "先看宏平均 F1；多数类总在表中"),
        "He and Garcia 2009",
        findings.balance,
    ),
    Rule(
        "length",
        Text("length", "长度"),
        Text(f"more than 5 % of the texts have over {LIMIT} tokens", f"超过 5% 的文本多于 {LIMIT} 个词元"),
        Text("recurrent models and linear attention beside attention", "循环网络、线性注意力与注意力并列"),
        "Devlin et al. 2019; Katharopoulos et al. 2020",
        findings.length,
    ),
    Rule(
        "language",
        Text("language", "语言"),
        Text("Chinese / pile and labels in different languages", "中文 / 文本堆与标注语言不同"),
        Text("whole words are masked / another pile", "整词掩码 / 换文本堆"),
        "Cui et al. 2021; Gururangan et al. 2020",
        findings.language,
    ),
    Rule(
        "prompting",
        Text("examples in the prompt", "提示中的示例"),
        Text("below about a billion parameters", "约十亿参数以下"),
        Text("measured beside the rest, seldom better than tuning", "照样并列实测，很少胜过微调"),
        "Brown et al. 2020, figure 1.2",
        findings.prompting,
    ),
)
