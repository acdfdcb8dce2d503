"""The robot's voice: what a Moshi is allowed to say, a tiny Moshi that says it, and eSpeak NG."""

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_backbones import save_qwen_vl, tiny_tokenizer

from neon_sim.espeak import speak
from neon_sim.model import audio
from neon_sim.model.tts import PersonaPlexTTS, TTSConfig, in_step, next_tokens, resampled

FRAME = 1920  # samples of one Mimi code: 24 kHz at 12.5 Hz
TEXT = "touch the red ball with your left hand"


def save_moshi(folder: Path) -> Path:
    """A Moshi of one layer with a Mimi of four codebooks, and a tokenizer of 400 pieces."""
    from transformers import MimiConfig, MoshiConfig, MoshiForConditionalGeneration

    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    mimi = MimiConfig(
        **small, num_key_value_heads=2, intermediate_size=16, num_filters=4, codebook_size=32, codebook_dim=8,
        vector_quantization_hidden_dimension=8, num_quantizers=4, upsample_groups=16,
    )  # fmt: skip
    depth = {**small, "ffn_dim": 32}
    config = MoshiConfig(
        **small, vocab_size=400, ffn_dim=32, num_codebooks=4, audio_encoder_config=mimi.to_dict(),
        depth_decoder_config=depth,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MoshiForConditionalGeneration(config)
    for name, codebook in model.named_buffers():
        if name.endswith("embed_sum"):  # zeros until trained: every code would sound the same
            codebook.normal_()
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def moshi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_moshi(tmp_path_factory.mktemp("moshi"))


def tiny_voice(folder: Path, voice: np.ndarray | None = None, **changes: Any) -> PersonaPlexTTS:
    """The tiny Moshi with short pauses."""
    small = {"dtype": "float32", "device": "cpu", "longest_pause": 3, "tail": 2}
    return PersonaPlexTTS(TTSConfig(str(folder), **{**small, **changes}), voice)


def test_it_stands_where_the_documents_say() -> None:
    assert audio.PersonaPlexTTS is PersonaPlexTTS and PersonaPlexTTS.sample_rate == 24000


def test_the_script_by_hand() -> None:
    words = [[10, 11], [20]]
    assert next_tokens(words, [], 2, 1) == (3, 0, 10)  # wait, announce, or begin
    assert next_tokens(words, [3], 2, 1) == (3, 0, 10)
    assert next_tokens(words, [3, 3], 2, 1) == (10,)  # the longest pause is over
    assert next_tokens(words, [0], 2, 1) == (10,)  # announced
    assert next_tokens(words, [0, 10], 2, 1) == (11,)  # inside a word
    assert next_tokens(words, [0, 10, 11], 2, 1) == (3, 0, 20)
    assert next_tokens(words, [0, 10, 11, 20], 2, 1) == (3,)  # all said, the tail
    assert next_tokens(words, [0, 10, 11, 20, 3], 2, 1) == ()
    assert next_tokens([], [], 2, 1) == (3,)


@given(
    st.lists(st.lists(st.integers(4, 9), min_size=1, max_size=3), max_size=5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_whatever_it_chooses_it_says_the_words_in_order_and_ends(words, longest_pause, tail, chooser) -> None:
    told: list[int] = []
    while allowed := next_tokens(words, told, longest_pause, tail):
        told.append(chooser.choice(allowed))
    assert [token for token in told if token not in (0, 3)] == [token for word in words for token in word]
    assert told[-tail:] == [3] * tail
    assert len(told) <= sum(len(word) + longest_pause + 1 for word in words) + tail


def test_a_moshi_says_the_text_and_nothing_else(moshi: Path) -> None:
    voice = tiny_voice(moshi).load()
    told: list[int] = []
    embed = voice.model.decoder.model.embed_tokens
    hook = embed.register_forward_pre_hook(lambda _, inputs: told.extend(inputs[0].flatten().tolist()))
    sound = voice.say(TEXT)
    hook.remove()
    assert told[:2] == [400, 3]  # the beginning, and a frame of silence in front
    said = [token for token in told[2:] if token not in (0, 3)]
    assert said == [token for word in TEXT.split() for token in tiny_tokenizer().encode(word, add_special_tokens=False)]
    assert len(sound) == FRAME * (len(told) - 3)  # a frame for each token but the last, which has nothing to follow
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all() and 0.0 < np.abs(sound).max() <= 1.0


def test_the_seed_decides_how_it_is_said_and_leaves_torch_alone(moshi: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again = (tiny_voice(moshi).say("press the green button") for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(first, again)
    other = tiny_voice(moshi, seed=1).say("press the green button")
    assert len(other) != len(first) or not np.array_equal(other, first)


def test_codes_are_put_in_step_as_transformers_does_it(moshi: Path) -> None:
    model = tiny_voice(moshi).load().model
    with torch.no_grad():
        made = model.generate(max_new_tokens=7, do_sample=True, return_audio_codes=True)
        assert torch.equal(in_step(model.generated_audio_codes), made.audio_codes)
        torch.testing.assert_close(model.audio_encoder.decode(made.audio_codes).audio_values, made.audio_sequences)
    codes = torch.tensor([[[9, 1, 2, 3], [9, 9, 11, 12]]])  # the second book is a step late; 9 is the beginning
    assert in_step(codes).tolist() == [[[1, 2], [11, 12]]]


def test_voice_and_role_come_before_the_words(moshi: Path) -> None:
    sample = 0.1 * np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    speaker = tiny_voice(moshi, sample, role="press the").load()
    tokens, samples = speaker._prompt()
    role = [t for word in ("press", "the") for t in tiny_tokenizer().encode(word, add_special_tokens=False)]
    assert tokens == [3, 3, 3, *role]  # 5000 samples fill three frames
    assert samples.shape == (FRAME * len(tokens),) and not bool(samples[5000:].any())
    np.testing.assert_array_equal(samples[:5000].numpy(), sample)
    with_voice, plain = speaker.say("press"), tiny_voice(moshi).say("press")
    assert len(with_voice) % FRAME == 0 and not np.array_equal(with_voice, plain)


def test_weights_are_read_at_the_first_word_and_frozen(moshi: Path) -> None:
    speaker = tiny_voice(moshi)
    assert speaker.model is None and speaker.say("  ").shape == (0,) and speaker.model is None
    speaker.say("press")
    assert not any(p.requires_grad for p in speaker.model.parameters()) and not speaker.model.training


def test_what_cannot_speak_is_refused(moshi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is no Moshi in transformers' layout .model_type 'qwen2_5_vl'"):
        PersonaPlexTTS(TTSConfig(str(save_qwen_vl(tmp_path))))
    with pytest.raises(ValueError, match="longest_pause, tail and temperature above 0"):
        TTSConfig(tail=0)
    with pytest.raises(ValueError, match=r"A voice is \(S,\) finite samples at 24000 Hz, got shape \(2, 3\)"):
        tiny_voice(moshi, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="eSpeak NG cannot take on a voice"):
        PersonaPlexTTS(voice=np.zeros(3))
    with pytest.raises(ValueError, match="at most 2000 characters, got 2001"):
        tiny_voice(moshi).say("a" * 2001)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="Pass a local folder, TTSConfig"):
        PersonaPlexTTS(TTSConfig("nobody/no-moshi"))


def test_a_tone_keeps_its_pitch_when_it_is_resampled() -> None:
    tone = np.sin(2 * np.pi * 441.0 * np.arange(22050) / 22050).astype(np.float32)
    out = resampled(tone, 22050)
    assert out.shape == (24000,) and out.dtype == np.float32
    expected = np.sin(2 * np.pi * 441.0 * np.arange(24000) / 24000)
    assert np.abs(out - expected)[200:-200].max() < 1e-3


def test_a_missing_extra_comes_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # Python's own way to say that it cannot be imported
    with pytest.raises(ImportError, match=r"pip install 'neon-sim\[speech\]'"):
        PersonaPlexTTS().say("hello")


@pytest.fixture
def offline() -> PersonaPlexTTS:
    pytest.importorskip("espeakng_loader", reason="pip install 'neon-sim[speech]'")
    return PersonaPlexTTS()


def test_the_default_voice_speaks_offline(offline: PersonaPlexTTS) -> None:
    sound = offline.say("I reach for the red ball.")
    assert sound.dtype == np.float32 and sound.ndim == 1 and 0.2 < np.abs(sound).max() <= 1.0
    assert 0.8 < len(sound) / 24000 < 2.0  # s; seven syllables
    twice = offline.say("I reach for the red ball. I reach for the red ball.")
    assert 1.7 < len(twice) / len(sound) < 2.5
    assert offline.say("").shape == (0,)


def test_speed_and_language_are_what_was_asked_for(offline: PersonaPlexTTS) -> None:
    slow, fast = (PersonaPlexTTS(TTSConfig(words_per_minute=n)).say(TEXT) for n in (120, 240))
    assert 1.5 < len(slow) / len(fast) < 2.5
    assert abs(len(PersonaPlexTTS(TTSConfig(language="de")).say("Hallo")) - len(offline.say("Hallo"))) > 200
    with pytest.raises(ValueError, match="eSpeak NG has no voice 'klingonese'"):
        PersonaPlexTTS(TTSConfig(language="klingonese")).say("a")
    with pytest.raises(ValueError, match="80 to 450 words per minute, got 20"):
        PersonaPlexTTS(TTSConfig(words_per_minute=20)).say("a")
    with pytest.raises(ValueError, match="no zero byte"):
        offline.say("a\0b")


def test_two_threads_do_not_talk_into_each_other(offline: PersonaPlexTTS) -> None:
    alone = {text: len(speak(text)[0]) for text in ("one", TEXT)}
    heard: dict[str, list[int]] = {text: [] for text in alone}
    threads = [
        threading.Thread(target=lambda text=text: heard[text].extend(len(speak(text)[0]) for _ in range(4)))
        for text in alone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text, lengths in heard.items():
        assert len(lengths) == 4 and max(abs(n - alone[text]) for n in lengths) < 200  # 9 ms
