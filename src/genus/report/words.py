"""The words of a report in English and Chinese. The key is the English text."""

from __future__ import annotations

from collections.abc import Callable

ZH = {
    "Comparison": "对比",
    "Run": "运行",
    "Recipe": "模型配方",
    "Parameters": "参数量",
    "Tokens": "词元数",
    "Time": "用时",
    "Validation, bits per byte": "验证集，每字节比特数",
    "Validation loss": "验证集损失",
    "Loss against tokens": "损失与词元数",
    "Loss against time": "损失与用时",
    "Tokens per second": "每秒词元数",
    "Of the matmul ceiling": "占矩阵乘法上限",
    "Peak memory": "内存峰值",
    "Learning": "学习曲线",
    "Bits per byte against tokens": "每字节比特数与词元数",
    "Bits per byte against time": "每字节比特数与用时",
    "Fraction of the matmul ceiling": "占矩阵乘法上限的比例",
    "Learning rate": "学习率",
    "Gradient norm": "梯度范数",
    "Memory, MB": "内存（MB）",
    "tokens": "词元",
    "time": "时间",
    "training": "训练",
    "validation": "验证",
    "predicted before training": "训练前的预测",
    "Predicted before training": "训练前的预测",
    "Reached": "实际达到",
    "inside the interval": "在区间之内",
    "outside the interval": "在区间之外",
    "Where the parameters are": "参数分布",
    "Part": "部件",
    "Number": "个数",
    "Share": "占比",
    "Stored": "存储",
    "Operations per token": "每词元运算量",
    "Total": "合计",
    "Samples": "生成样例",
    "step": "步",
    "Evaluation": "评测",
    "Before and after": "训练前后",
    "before": "之前",
    "after": "之后",
    "change": "变化",
    "new data": "新数据",
    "old data": "旧数据",
    "Events": "事件",
    "Data": "数据",
    "Machine": "机器",
    "Seed": "随机种子",
    "The whole run.json": "完整的 run.json",
    "Lower is better. The lowest is in bold.": "越低越好，最低者以粗体显示。",
    "Faint: training loss, neighbouring steps averaged. With marks: validation.": "浅色：训练损失（相邻步平均）；带点：验证集。",
    "Dotted: a model that was counted, not trained step by step.": "点线：通过计数得到、而非逐步训练的模型。",
    "Dashed: predicted before training.": "虚线：训练前的预测。",
    "No training lines yet.": "尚无训练记录。",
}


def translator(language: str) -> Callable[[str], str]:
    """A function from English to the language, "en" or "zh"."""
    return (lambda text: ZH.get(text, text)) if language == "zh" else (lambda text: text)
