"""Recurrent layers and attention."""

from keras import layers as k

from benchmarks.coverage.case import Input, cases, later

LINE, ANY_LINE, WORDS = Input((8, 3)), Input((None, 3)), Input((6,), "int32", 20)

RECURRENT = cases(
    "recurrent",
    LINE,
    (
        ("SimpleRNN", later(k.SimpleRNN, 4)),
        ("SimpleRNN sequences, dynamic length", later(k.SimpleRNN, 4, return_sequences=True), ANY_LINE),
        ("LSTM", later(k.LSTM, 4)),
        ("LSTM sequences", later(k.LSTM, 4, return_sequences=True)),
        ("LSTM dynamic length", later(k.LSTM, 4), ANY_LINE),
        ("LSTM states", later(k.LSTM, 4, return_state=True)),
        ("LSTM backwards", later(k.LSTM, 4, go_backwards=True)),
        ("LSTM unrolled", later(k.LSTM, 4, unroll=True)),
        ("LSTM two layers", lambda x: k.LSTM(4)(k.LSTM(4, return_sequences=True)(x))),
        ("GRU", later(k.GRU, 4)),
        ("GRU sequences, dynamic length", later(k.GRU, 4, return_sequences=True), ANY_LINE),
        ("GRU reset_after=False", later(k.GRU, 4, reset_after=False)),
        ("GRU unrolled", later(k.GRU, 4, unroll=True)),
        ("Bidirectional LSTM", lambda x: k.Bidirectional(k.LSTM(4))(x)),
        ("Bidirectional LSTM sequences, dynamic length",
         lambda x: k.Bidirectional(k.LSTM(4, return_sequences=True))(x), ANY_LINE),
        ("Bidirectional GRU sum", lambda x: k.Bidirectional(k.GRU(4), merge_mode="sum")(x)),
        ("RNN of a GRUCell", lambda x: k.RNN(k.GRUCell(4))(x)),
        ("RNN of stacked cells", lambda x: k.RNN(k.StackedRNNCells([k.LSTMCell(4), k.GRUCell(4)]))(x)),
        ("Embedding with a mask, LSTM", lambda x: k.LSTM(4)(k.Embedding(20, 5, mask_zero=True)(x)), WORDS),
        ("Embedding with a mask, Bidirectional LSTM",
         lambda x: k.Bidirectional(k.LSTM(4))(k.Embedding(20, 5, mask_zero=True)(x)), WORDS),
        ("Masking, LSTM", lambda x: k.LSTM(4)(k.Masking()(x))),
        ("Masking, GRU sequences, dynamic length", lambda x: k.GRU(4, return_sequences=True)(k.Masking()(x)), ANY_LINE),
        ("LSTM stateful, fixed batch", later(k.LSTM, 4, stateful=True), Input((8, 3), batch=3)),
        ("ConvLSTM1D", later(k.ConvLSTM1D, 4, 3), Input((4, 8, 3))),
        ("ConvLSTM2D", later(k.ConvLSTM2D, 4, 3), Input((4, 8, 8, 3))),
        ("ConvLSTM3D", later(k.ConvLSTM3D, 4, 3), Input((4, 6, 6, 6, 3))),
        ("TimeDistributed Dense", lambda x: k.TimeDistributed(k.Dense(4))(x)),
        ("TimeDistributed Conv2D", lambda x: k.TimeDistributed(k.Conv2D(4, 3))(x), Input((4, 8, 8, 3))),
        ("TimeDistributed Conv2D dynamic length",
         lambda x: k.TimeDistributed(k.Conv2D(4, 3))(x), Input((None, 8, 8, 3))),
    ),
    fast=("LSTM",),
)  # fmt: skip

QUERY, VALUE, MASK = Input((6, 8)), Input((7, 8)), Input((7,), "bool")
ANY_QUERY, SQUARE = Input((None, 8)), Input((6, 6), "bool")

ATTENTION = cases(
    "attention",
    QUERY,
    (
        ("Attention", lambda q, v: k.Attention()([q, v]), (QUERY, VALUE)),
        ("Attention scaled", lambda q, v: k.Attention(use_scale=True)([q, v]), (QUERY, VALUE)),
        ("Attention by concatenation", lambda q, v: k.Attention(score_mode="concat")([q, v]), (QUERY, VALUE)),
        ("Attention causal", lambda q, v: k.Attention()([q, v], use_causal_mask=True), (QUERY, VALUE)),
        ("Attention masked", lambda q, v, m: k.Attention()([q, v], mask=[None, m]), (QUERY, VALUE, MASK)),
        ("AdditiveAttention", lambda q, v: k.AdditiveAttention()([q, v]), (QUERY, VALUE)),
        ("MultiHeadAttention", lambda q, v: k.MultiHeadAttention(2, 4)(q, v), (QUERY, VALUE)),
        ("MultiHeadAttention to itself, dynamic length", lambda q: k.MultiHeadAttention(2, 4)(q, q), ANY_QUERY),
        ("MultiHeadAttention causal", lambda q: k.MultiHeadAttention(2, 4)(q, q, use_causal_mask=True)),
        ("MultiHeadAttention masked",
         lambda q, m: k.MultiHeadAttention(2, 4)(q, q, attention_mask=m), (QUERY, SQUARE)),
        ("MultiHeadAttention with its scores",
         lambda q: list(k.MultiHeadAttention(2, 4)(q, q, return_attention_scores=True))),
        ("MultiHeadAttention of an Embedding with a mask",
         lambda x: (lambda e: k.MultiHeadAttention(2, 4)(e, e))(k.Embedding(20, 8, mask_zero=True)(x)), WORDS),
        ("GroupQueryAttention", lambda q: k.GroupQueryAttention(4, 4, 2)(q, q)),
        ("GroupQueryAttention causal", lambda q: k.GroupQueryAttention(4, 4, 2)(q, q, use_causal_mask=True)),
    ),
)  # fmt: skip
