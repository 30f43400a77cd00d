import numpy as np
from bench_records import NANO, PEER, record
from PIL import Image

from last.bench.board_pictures import draw_board
from last.bench.scoreboard import boards


def test_two_networks_are_drawn_by_parameters_and_by_macs(tmp_path):
    records = [record(NANO, 9, seed=0), record(NANO, 8, seed=1), record(PEER, 7, parameters=292_000)]
    (board,) = boards(records)
    drawn = draw_board(board, tmp_path)
    assert [path.name for path in drawn] == ["pareto_nw_ucla_xview_parameters.png", "pareto_nw_ucla_xview_macs.png"]
    one, other = (np.asarray(Image.open(path).convert("L")) for path in drawn)
    assert one.std() > 5 and other.std() > 5 and (one.shape != other.shape or (one != other).any())


def test_one_network_alone_shows_nothing(tmp_path):
    (board,) = boards([record(NANO)])
    assert draw_board(board, tmp_path) == []
    assert not list(tmp_path.iterdir())
