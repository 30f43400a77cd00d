import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import last
from last.config import load_config
from last.data import feed as feed_module
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Resident, choose_feed, free_memory, total_memory
from last.data.rows import RowReader
from last.data.store import ClipStore, StoreError
from last.data.store_writer import StoreWriter
from last.data.windows import Windowed, shard_order
from last.evaluate import predict
from last.progress import Interrupted, Reporter
from last.setting_values import ConfigError
from last.settings import TrainingConfig
from last.training.loop import Trainer
from last.workflow import begin, train
from tiny_clips import make_clips

CPU = torch.device("cpu")
ROW = 5 * 3 * 4  # bytes of the stick's five joints


@pytest.fixture(scope="module")
def made(stick):
    """Clips 0 to 29 of one or two bodies, some joints of one not seen."""
    clips = [
        clip
        for pair in zip(make_clips(stick, 15), make_clips(stick, 15, bodies=2, seed=1), strict=True)
        for clip in pair
    ]
    seen = np.ones(clips[4].joints.shape[:3], np.float32)
    seen[:, :, 2] = np.nan
    clips[4] = replace(clips[4], confidence=seen)
    return [replace(clip, name=f"clip{i:02d}", label=i % 2) for i, clip in enumerate(clips)]


def write(clips, path, layout, dtype="float32"):
    with StoreWriter(path, layout, ["a", "b"], dtype) as writer:
        for clip in clips:
            writer.append(clip)
    return ClipStore.open(path)


@pytest.fixture
def store(made, stick, tmp_path):
    return write(made, tmp_path / "store", stick)


def windowed(store, device=CPU, budget=100 * ROW, batch=4, **settings):
    """Clips 29 to 1 by windows, of few of them."""
    return Windowed(store, np.arange(29, 0, -1), device, batch, budget, **settings)


def content(batches):
    """Labels, lengths, and the joints and certainty of all bodies in the first six frames of each batch's clips."""
    times, found = torch.arange(6.0), []
    for clips, index in batches:
        of_each = times.to(index.device).expand(len(index), -1)
        joints, mask = clips.gather(index, of_each, 2)
        seen = clips.gather_seen(index, of_each, 2)
        found.append([t.cpu() for t in (clips.labels[index], clips.frames[index], joints, mask, seen)])
    return found


def same(ones, others):
    return len(ones) == len(others) and all(
        torch.equal(a, b) for one, other in zip(ones, others, strict=True) for a, b in zip(one, other, strict=True)
    )


def no_thread_is_left():
    """Whether all that read have ended, for which nobody needs to tell them."""
    readers = [thread for thread in threading.enumerate() if thread.name.startswith("clips")]
    for thread in readers:
        thread.join(5)
    return not any(thread.is_alive() for thread in readers)


def test_resident_clips_come_by_their_places(store):
    feed = Resident(DeviceClips.from_store(store, np.arange(10), CPU))
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    assert [places.tolist() for _, places in feed.batches(order, 4)] == [[3, 1, 4, 0], [5, 9, 2, 6], [8, 7]]
    assert [places.tolist() for _, places in feed.batches(order, 4, first=2)] == [[8, 7]]
    assert sorted(feed.order(torch.Generator().manual_seed(0)).tolist()) == list(range(10))


def test_windows_bring_the_clips_that_were_asked_for(store, made):
    feed = windowed(store)
    order = feed.order(torch.Generator().manual_seed(0))
    found = content(feed.batches(order, 4))
    assert [len(labels) for labels, *_ in found] == [4] * 7 + [1]
    labels, frames, joints, mask, seen = (torch.cat(parts) for parts in zip(*found, strict=True))
    for row, place in enumerate(order.tolist()):
        clip = made[29 - place]
        assert (labels[row], frames[row]) == (clip.label, clip.frames)
        assert mask[row].tolist() == [True, clip.bodies == 2]
        expected = torch.from_numpy(clip.joints[:6]).permute(3, 0, 2, 1)  # (C, T, V, M)
        assert torch.equal(joints[row, ..., : clip.bodies], expected)
        unseen = seen[row, 0, :, :, 0] == 0
        assert unseen[:, 2].all() == unseen.any() == (clip.name == "clip04")
    assert (feed.labels[0], feed.frames[0], feed.bodies[0]) == (1, made[29].frames, 2)


@pytest.mark.parametrize("budget", [0, 100 * ROW, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_windows_give_what_resident_clips_give(made, stick, tmp_path, budget, dtype):
    store = write(made, tmp_path / "store", stick, dtype)
    feed, resident = windowed(store, budget=budget), Resident(DeviceClips.from_store(store, np.arange(29, 0, -1), CPU))
    assert feed.most_bodies == resident.most_bodies == 2 and len(feed) == len(resident) == 29
    for seed in range(2):
        order = feed.order(torch.Generator().manual_seed(seed))
        assert torch.equal(order, resident.order(torch.Generator().manual_seed(seed)))
        assert same(content(feed.batches(order, 4)), content(resident.batches(order, 4)))
        assert same(content(feed.batches(order, 4, first=3)), content(resident.batches(order, 4))[3:])
    assert content(feed.batches(order, 4, first=8)) == []


def test_half_precision_joints_stay_so_on_the_device(made, stick, tmp_path):
    store = write(made, tmp_path / "store", stick, "float16")
    clips = DeviceClips.from_store(store, np.arange(30), CPU)
    assert clips.rows.dtype == torch.float16
    joints, _ = clips.gather(torch.tensor([2]), torch.tensor([[0.5]]), 1)
    halves = made[2].joints[:2, 0].astype(np.float16).astype(np.float32)
    assert joints.dtype == torch.float32
    np.testing.assert_allclose(joints[0, :, 0, :, 0].T, halves.mean(0), rtol=1e-6)


def test_the_tensors_of_a_window_never_move(store):
    feed = windowed(store)
    order = torch.arange(29)
    addresses = {
        tuple(getattr(clips, key).data_ptr() for key in ("rows", "seen", "offset", "frames", "bodies", "labels"))
        for _ in range(2)
        for clips, _ in feed.batches(order, 4)
    }
    assert len(addresses) == 1


def test_windows_keep_to_their_budget_but_hold_a_batch(store, made):
    assert windowed(store, budget=100 * ROW).window_bytes == 100 * ROW
    longest = sorted(clip.frames * clip.bodies for clip in made[1:])[-4:]
    assert windowed(store, budget=0).window_bytes == sum(longest) * ROW
    assert windowed(store, budget=1 << 30).window_bytes == sum(c.frames * c.bodies for c in made[1:]) * ROW
    with pytest.raises(ValueError, match="batches of 5 clips are asked of windows that were made for 4"):
        next(windowed(store).batches(torch.arange(29), 5))


def test_a_window_is_read_while_the_one_before_is_in_use(store, monkeypatch):
    read = RowReader.read

    def slow(*given):
        time.sleep(0.02)
        read(*given)

    monkeypatch.setattr(RowReader, "read", slow)
    feed = windowed(store, budget=0)
    for _ in feed.batches(torch.arange(29), 4):
        pass
    hurried, feed.waited = feed.waited, 0.0
    for _ in feed.batches(torch.arange(29), 4):
        time.sleep(0.06)
    assert 0.02 <= feed.waited < hurried  # an epoch's first window is always waited for


def test_an_iteration_that_is_left_leaves_no_thread(store):
    feed, order = windowed(store, budget=0), torch.arange(29)
    batches = feed.batches(order, 4)
    next(batches)
    batches.close()
    assert no_thread_is_left()
    # One that is left but not closed disturbs no later one.
    left = feed.batches(order, 4)
    next(left)
    assert same(content(feed.batches(order, 4)), content(windowed(store).batches(order, 4)))
    left.close()
    assert no_thread_is_left()


def test_a_disk_that_fails_is_told_where_batches_are_asked_for(store):
    feed, order = windowed(store, budget=0), torch.arange(29)
    batches = feed.batches(order, 4)
    next(batches)
    with (store.path / "joints.npy").open("r+b") as file:
        file.truncate(store.joints.offset + 10)
    with pytest.raises(StoreError, match=r"cannot read the clips in .*joints\.npy: it ends after"):
        for _ in batches:
            pass
    assert no_thread_is_left()


@given(clips=st.integers(1, 60), shard=st.integers(1, 9), together=st.integers(1, 9), seed=st.integers(0, 99))
def test_shards_give_every_clip_once_from_few_places_at_a_time(clips, shard, together, seed):
    order = shard_order(clips, shard, together, torch.Generator().manual_seed(seed)).tolist()
    assert sorted(order) == list(range(clips))
    shards = list(dict.fromkeys(clip // shard for clip in order))
    for i in range(0, len(shards), together):  # the clips of so many shards come before any of the others
        group = shards[i : i + together]
        count = sum(clip // shard in group for clip in range(clips))
        assert {clip // shard for clip in order[:count]} == set(group)
        order = order[count:]


def test_shards_and_their_clips_are_shuffled():
    orders = [shard_order(12, 3, 2, torch.Generator().manual_seed(seed)) for seed in range(400)]
    # Two shards of four together: the first six clips are of two shards, any two, in any order.
    halves = [sorted({int(clip) // 3 for clip in order[:6]}) for order in orders]
    assert all(len(half) == 2 for half in halves)
    assert len({tuple(half) for half in halves}) == 6
    first = torch.stack(orders)[:, 0].bincount(minlength=12)
    assert first.min() > 10  # of 33 expected


def test_shards_follow_the_file(store):
    order = windowed(store, shard=7, together=1).order(torch.Generator().manual_seed(1))
    # Place p is clip 29 - p: in the order of the file the places are 28, 27, ..., in shards of 7 and a last one of 1.
    shards = list(dict.fromkeys((28 - place) // 7 for place in order.tolist()))
    assert sorted(order.tolist()) == list(range(29)) and sorted(shards) == [0, 1, 2, 3, 4]
    assert [(28 - place) // 7 for place in order.tolist()] == [s for s in shards for _ in range(1 if s == 4 else 7)]


def choose(store, choice="auto"):
    return choose_feed(store, np.arange(30), CPU, 4, choice)


@pytest.fixture
def memory(monkeypatch):
    """Set what is free on the device, and all of the host's."""

    def set_(free, total=1 << 40):
        monkeypatch.setattr(feed_module, "free_memory", lambda device: free)
        monkeypatch.setattr(feed_module, "total_memory", lambda: total)

    return set_


def test_clips_lie_on_the_device_where_half_of_it_holds_them(store, memory):
    size = len(store.joints) * (ROW + 5)  # and a byte a joint, how sure it is
    memory(2 * size)
    assert isinstance(choose(store), Resident)
    memory(2 * size - 1)
    feed = choose(store)
    assert isinstance(feed, Windowed)
    assert "come by windows of" in feed.note and "memory has" in feed.note and "shards" not in feed.note


def test_the_setting_decides_where_clips_lie(store, memory):
    size = len(store.joints) * (ROW + 5)
    memory(1 << 30)
    feed = choose(store, "windows")
    assert isinstance(feed, Windowed) and feed.note.endswith("as environment.clips asks")
    memory(size)
    assert isinstance(choose(store, "device"), Resident)
    memory(size - 1)
    with pytest.raises(ConfigError, match=r"is device, but memory has 0.0 MB free for 30 clips of 0.0 MB; set environ"):
        choose(store, "device")


def test_what_memory_cannot_hold_is_drawn_by_shards(store, memory, monkeypatch):
    size = len(store.joints) * (ROW + 5)
    monkeypatch.setattr(feed_module, "_SHARD", size // 9)
    memory(1000, total=size)
    assert "shards" not in choose(store).note
    memory(1000, total=size - 1)
    feed = choose(store)
    assert "drawn by shards of 3, since memory is" in feed.note
    # Of another free memory, such as after an interruption, the same order, also where all clips lie on the device.
    memory(900, total=size - 1)
    others = [choose(store)]
    memory(10 * size, total=size - 1)
    others.append(choose(store))
    assert isinstance(others[1], Resident)
    for other in others:
        assert torch.equal(*(one.order(torch.Generator().manual_seed(0)) for one in (feed, other)))


def test_memory_is_that_of_the_machine_or_of_the_container(tmp_path, monkeypatch):
    assert 1 << 24 < free_memory(CPU) <= total_memory() < 1 << 46
    (tmp_path / "memory.max").write_text("4000000\n")
    monkeypatch.setattr(feed_module, "_LIMIT", tmp_path / "memory.max")
    assert free_memory(CPU) == total_memory() == 4_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert total_memory() > 1 << 24
    monkeypatch.setattr(feed_module, "_MEMINFO", tmp_path / "none")
    assert free_memory(CPU) == total_memory() // 2


def test_scores_are_the_same_by_windows(store, stick):
    torch.manual_seed(0)
    model, pipeline = last.create_model("last_e_nano", 2, stick), Pipeline(stick, frames=8)
    resident = DeviceClips.from_store(store, np.arange(29, 0, -1), CPU)
    done = []
    by_windows = predict(model, pipeline, windowed(store), batch_size=4, crops=2, on_clips=done.append)
    assert torch.equal(by_windows, predict(model, pipeline, resident, batch_size=4, crops=2))
    assert done == [4, 8, 12, 16, 20, 24, 28, 29]


def trainer(feed, layout):
    """Of a fresh network over two epochs of eight batches."""
    recipe = TrainingConfig(epochs=2, batch_size=4, warmup_epochs=1, crop=(0.5, 1.0), rotation=(20.0, 20.0, 20.0))
    torch.manual_seed(0)
    model = last.create_model("last_e_nano", 2, layout)
    pipeline = Pipeline(layout, frames=8, augmentation=Augmentation.from_config(recipe))
    return Trainer(model, pipeline, feed, recipe)


def weights(trained):
    return torch.cat([value.flatten().double() for value in trained.model.state_dict().values()])


def test_training_by_windows_is_training_bit_for_bit_also_when_resumed(store, stick, tmp_path):
    whole = trainer(Resident(DeviceClips.from_store(store, np.arange(29, 0, -1), CPU)), stick)
    whole.fit(tmp_path / "whole.pt", lambda row: None)
    by_windows, done = trainer(windowed(store), stick), []
    with pytest.raises(Interrupted):
        by_windows.fit(tmp_path / "c.pt", lambda row: None, done.append, stop=lambda: done[-1] == 11)
    assert no_thread_is_left()
    resumed = trainer(windowed(store, budget=0), stick)
    resumed.load(tmp_path / "c.pt")
    resumed.fit(tmp_path / "c.pt", lambda row: None)
    assert torch.equal(weights(resumed), weights(whole))
    rows = zip(resumed.progress.history, whole.progress.history, strict=True)
    assert all(one | {"seconds": 0} == other | {"seconds": 0} for one, other in rows)


class Told(Reporter):
    """Keeps what would be said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.sentences = []

    def say(self, sentence):
        self.sentences.append(sentence)


def test_the_setting_reaches_training(ucla_like, tmp_path):
    settings = {"data.path": str(ucla_like.path), "data.frames": 8, "environment.clips": "windows"}
    config = load_config(dataset="nw_ucla", environment="local", overrides=settings)
    run, reporter = begin(config, str(tmp_path / "run"), CPU, "last train"), Told()
    with pytest.raises(Interrupted):
        train(run, False, CPU, reporter, stop=lambda: True)
    assert any("come by windows of" in sentence for sentence in reporter.sentences)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_windows_on_a_gpu_are_not_overwritten_while_they_are_read(store):
    device = torch.device("cuda")
    feed, order = windowed(store, device, budget=0), torch.randperm(29)
    expected = content(windowed(store).batches(order, 4))
    with torch.cuda.stream(torch.cuda.Stream(device)):
        found = []
        for clips, index in feed.batches(order, 4):
            torch.cuda._sleep(20_000_000)  # the host is far ahead of the device
            found.append((clips.labels[index], clips.gather(index, torch.zeros(len(index), 1, device=device), 2)[0]))
        torch.cuda.current_stream().synchronize()
    for (labels, joints), (want_labels, _, want_joints, *_) in zip(found, expected, strict=True):
        assert torch.equal(labels.cpu(), want_labels)
        assert torch.equal(joints.cpu(), want_joints[:, :, :1])
