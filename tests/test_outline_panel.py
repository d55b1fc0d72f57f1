"""The panel shows the outline that a cell would get, follows its menus, and sends the page to print."""

import pytest
from traitlets import TraitError

from helpers.outline import outline
from helpers.outline_panel import LATENCIES, OutlinePanel


@pytest.fixture(scope="module")
def shown():
    """A panel for tests that change nothing."""
    return OutlinePanel("fraud detection", "small", 100, "Staff")


def test_it_shows_the_page_that_a_cell_would_get(shown):
    page = outline("fraud detection", "small", 100, "Staff")
    assert shown.view["markdown"] == shown.outline.markdown() == page.markdown()
    assert shown.view["alt"] == page.alt
    assert shown.view["picture"].rstrip().endswith("</svg>")
    assert repr(shown) == f"OutlinePanel: {page.alt} In JupyterLab, run this cell to choose another."


def test_the_menus_offer_the_latency_that_it_was_made_with():
    assert OutlinePanel("search engine", "small", 150).menus["p99_ms"] == sorted([*LATENCIES, 150.0])


def test_a_choice_that_no_design_reaches_is_said_until_another_is_made():
    panel = OutlinePanel("video recommendation", "small", 200)
    before = panel.view
    panel.p99_ms = 1
    with pytest.raises(ValueError, match="ms") as refusal:
        panel.outline  # noqa: B018 (the property raises)
    assert panel.view == {"error": str(refusal.value)}
    assert str(refusal.value) in repr(panel)
    panel.p99_ms = 200
    assert panel.view["markdown"] == before["markdown"]


def test_the_page_is_sent_when_it_is_asked_for_and_there_is_one(monkeypatch):
    panel, sent = OutlinePanel("feed ranking", "small", 200), []
    monkeypatch.setattr(panel, "send", lambda content, buffers: sent.append((content, buffers)))
    panel._handle_custom_msg("something else", [])
    assert sent == []
    panel._handle_custom_msg("page", [])
    [(content, [page])] = sent
    assert content == {"name": "feed ranking small 200 ms Senior.pdf"}
    assert page.startswith(b"%PDF")
    panel.p99_ms = 1
    panel._handle_custom_msg("page", [])
    assert len(sent) == 1


@pytest.mark.parametrize(
    "choice", [{"system": "chess"}, {"scale": "huge"}, {"seniority": "Intern"}, {"p99_ms": 0.001}]
)
def test_an_unknown_choice_is_refused_at_once(choice):
    with pytest.raises(ValueError):
        OutlinePanel(**choice)


@pytest.mark.parametrize("choice", [("system", "chess"), ("scale", "huge"), ("seniority", "Intern")])
def test_a_trait_takes_only_what_its_menu_offers(shown, choice):
    with pytest.raises(TraitError):
        setattr(shown, *choice)
