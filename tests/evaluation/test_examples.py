"""What a report shows is of several classes and speakers."""

import torch

from pipelines.evaluation.examples import Examples, varied


def test_labels_and_speakers_are_taken_in_turn() -> None:
    groups = [(label, speaker) for speaker in range(3) for label in range(3)]  # sorted by speaker
    chosen = [groups[place] for place in varied(groups, 3)]
    assert sorted(label for label, _ in chosen) == [0, 1, 2]
    assert sorted(speaker for _, speaker in chosen) == [0, 1, 2]
    assert varied(groups, 3)[0] == 0 and len(varied(groups, 20)) == 9


def test_all_classes_of_a_sorted_set_are_shown() -> None:
    labels = torch.arange(4).repeat_interleave(50)
    items = torch.arange(200)[:, None]
    examples = Examples(shown=10)
    for part in torch.arange(200).split(32):
        examples.add(items[part], -items[part], labels[part])
    pairs = examples.chosen()
    assert [int(original) for original, _ in pairs] == [0, 1, 2, 50, 51, 52, 100, 101, 150, 151]
    assert all(torch.equal(rebuilt, -original) for original, rebuilt in pairs)


def test_of_many_classes_no_more_are_kept_than_are_shown() -> None:
    examples = Examples(shown=3)
    examples.add(torch.arange(8)[:, None], torch.arange(8)[:, None], torch.arange(8))
    assert [int(original) for original, _ in examples.chosen()] == [0, 1, 2]
