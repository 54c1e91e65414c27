"""data-juicer's side of the comparison; runs in an environment where only data-juicer is installed.

Its operators as its documentation calls them, on its own dataset class, with two processes where an operator
takes them. Word count is its words_num_filter, the list its flagged_words_filter at a ratio of 0, duplicates
its document_deduplicator.
"""

import contextlib
import json
import sys
import time


def main() -> None:
    path, words, *steps = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        from data_juicer.core.data import NestedDataset
        from data_juicer.ops.deduplicator.document_deduplicator import DocumentDeduplicator
        from data_juicer.ops.filter.flagged_words_filter import FlaggedWordFilter
        from data_juicer.ops.filter.words_num_filter import WordsNumFilter
        from datasets import load_dataset

        make = {
            "length": lambda: WordsNumFilter(min_num=4, max_num=100, num_proc=2),
            "words": lambda: FlaggedWordFilter(max_ratio=0.0, flagged_words_dir=words, num_proc=2),
            "duplicates": lambda: DocumentDeduplicator(num_proc=2),
        }
        start = time.perf_counter()
        dataset = NestedDataset(load_dataset("json", data_files=path, split="train"))
        dataset = dataset.process([make[step]() for step in steps])
        kept = sorted(dataset["id"])
        seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "kept": kept}) + "\n")


if __name__ == "__main__":
    main()
