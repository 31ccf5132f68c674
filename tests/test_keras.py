import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import vecstore
from vecstore.demo import LABELS, SENTENCES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of TensorFlow's and gensim's own imports
    import keras
    import tensorflow as tf
    from gensim.models import KeyedVectors
    from keras.src.legacy.preprocessing.text import Tokenizer

    import vecstore.keras

# Keras 3.15 saves a TensorFlow variable by a NumPy call that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

VOCABULARY = {"nice": 1, "größe": 2, "absent": 3}


@pytest.fixture
def matrix(store: vecstore.VectorStore) -> vecstore.EmbeddingMatrix:
    """Four rows: padding, two keys of the small store, and one that is missing."""
    return store.matrix(VOCABULARY)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(SENTENCES)
    return tokenizer


def sequential(layer: keras.layers.Layer, length: int) -> keras.Model:
    head = [keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    return keras.Sequential([keras.Input((length,), dtype="int32"), layer, *head])


def functional(layer: keras.layers.Layer, length: int) -> keras.Model:
    ids = keras.Input((length,), dtype="int32")
    flat = keras.layers.Flatten()(layer(ids))
    return keras.Model(ids, keras.layers.Dense(1, activation="sigmoid")(flat))


models = pytest.mark.parametrize("model_of", [sequential, functional])


def gensim_layer(path: Path, word_index: dict[str, int]) -> keras.layers.Embedding:
    """Build the layer as the tutorial does without vecstore."""
    vectors = KeyedVectors.load_word2vec_format(str(path), binary=True, limit=100_000)
    matrix = np.zeros((len(word_index) + 1, vectors.vector_size))
    for word, row in word_index.items():
        if word in vectors:
            matrix[row] = vectors[word]
    return keras.layers.Embedding(*matrix.shape, weights=[matrix], trainable=False)


def train(layer: keras.layers.Embedding, tokenizer: Tokenizer) -> dict[str, list[float]]:
    ids = keras.utils.pad_sequences(tokenizer.texts_to_sequences(SENTENCES), padding="post")
    keras.utils.set_random_seed(1)
    model = sequential(layer, ids.shape[1])
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model.fit(ids, np.array(LABELS), epochs=100, verbose=0).history


def test_tutorial_learns_the_same_with_gensim_and_with_vecstore(glove, glove_folder, tokenizer):
    theirs = gensim_layer(glove_folder / "glove.bin", tokenizer.word_index)
    ours = vecstore.keras.embedding(glove.matrix(tokenizer.word_index))
    np.testing.assert_array_equal(ours.get_weights()[0], theirs.get_weights()[0], strict=True)
    before = ours.get_weights()[0]
    history = train(ours, tokenizer)
    assert history == train(theirs, tokenizer)
    assert history["accuracy"][-1] == 1.0
    np.testing.assert_array_equal(ours.get_weights()[0], before)


@models
@pytest.mark.parametrize("as_array", [False, True])
def test_layer_gives_the_vectors(matrix, model_of, as_array):
    layer = vecstore.keras.embedding(matrix.vectors if as_array else matrix, name="words")
    assert type(layer) is keras.layers.Embedding
    assert (layer.name, layer.input_dim, layer.output_dim) == ("words", 4, 3)
    ids = np.array([[0, 1], [3, 2]])
    np.testing.assert_array_equal(layer(ids), matrix.vectors[ids])
    assert model_of(layer, 2).predict(ids, verbose=0).shape == (2, 1)
    np.testing.assert_array_equal(layer.get_weights()[0], matrix.vectors, strict=True)


def test_layer_holds_a_copy(matrix):
    vectors = matrix.vectors.copy()
    layer = vecstore.keras.embedding(vectors)
    vectors[:] = 0
    np.testing.assert_array_equal(layer.get_weights()[0], matrix.vectors)


LOAD = """
import json, sys
sys.modules["vecstore"] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
print(json.dumps({"weights": [w.tolist() for w in model.get_weights()],
                  "predicted": model.predict(np.array([[0, 1, 2], [3, 2, 1]]), verbose=0).tolist(),
                  "trainable": model.layers[-3].trainable}))
"""


@pytest.mark.parametrize(("model_of", "trainable"), [(sequential, False), (functional, True)])
def test_a_model_is_loaded_without_vecstore_and_store(small_path, tmp_path, run_python, model_of, trainable):
    path = shutil.copytree(small_path, tmp_path / "store")
    with vecstore.open(path) as store:
        model = model_of(vecstore.keras.embedding(store.matrix(VOCABULARY), trainable=trainable), 3)
    shutil.rmtree(path)
    model.save(tmp_path / "model.keras")
    loaded = json.loads(run_python(LOAD, tmp_path / "model.keras").splitlines()[-1])
    for found, expected in zip(loaded["weights"], model.get_weights(), strict=True):
        np.testing.assert_array_equal(np.array(found, np.float32), expected)
    ids = np.array([[0, 1, 2], [3, 2, 1]])
    np.testing.assert_allclose(loaded["predicted"], model.predict(ids, verbose=0), rtol=1e-6)
    assert loaded["trainable"] is trainable


def test_weights_are_not_in_the_config():
    vectors = np.random.default_rng(0).standard_normal((5000, 50), dtype=np.float32)
    layer = vecstore.keras.embedding(vectors)
    config = layer.get_config()
    assert len(json.dumps(config)) < 1000
    assert config["embeddings_initializer"]["class_name"] == "Zeros"
    again = keras.layers.Embedding.from_config(config)
    again.build()
    assert again.get_weights()[0].shape == vectors.shape


@models
def test_weights_are_no_constant_of_the_graph(model_of):
    vectors = np.random.default_rng(0).standard_normal((5000, 50), dtype=np.float32)
    model = model_of(vecstore.keras.embedding(vectors), 3)
    graph = tf.function(model).get_concrete_function(tf.TensorSpec((None, 3), tf.int32)).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert any("Gather" in node.op for node in nodes)
    assert max(node.ByteSize() for node in nodes) < 10_000


def test_trainable_vectors_change_in_training(matrix):
    for trainable in False, True:
        layer = vecstore.keras.embedding(matrix, trainable=trainable)
        assert layer.trainable is trainable
        model = sequential(layer, 2)
        model.compile(optimizer="sgd", loss="mse")
        model.fit(np.array([[1, 2]]), np.array([5.0]), verbose=0)
        assert np.array_equal(layer.get_weights()[0], matrix.vectors) is not trainable


def test_mask_zero_hides_the_padding(matrix):
    layer = vecstore.keras.embedding(matrix, mask_zero=True)
    np.testing.assert_array_equal(layer.compute_mask(np.array([[1, 0, 2]])), [[True, False, True]])
    assert vecstore.keras.embedding(matrix).compute_mask(np.array([[1, 0, 2]])) is None


def test_mask_zero_would_hide_a_key_in_row_0(store):
    message = r"mask_zero=True would hide the key in row 0: start the vocabulary with '' or at row 1"
    found, missing = store.matrix(["nice", "größe"]), store.matrix(["absent", "nice"], oov="mean")
    for matrix in found, missing, found.vectors:
        with pytest.raises(ValueError, match=message):
            vecstore.keras.embedding(matrix, mask_zero=True)
    vecstore.keras.embedding(store.matrix(["", "nice"]), mask_zero=True)


@pytest.mark.parametrize("name", ["input_dim", "output_dim", "weights", "embeddings_initializer"])
def test_the_matrix_decides_shape_and_weights(matrix, name):
    with pytest.raises(TypeError, match=f"{name}: the matrix decides this"):
        vecstore.keras.embedding(matrix, **{name: 7})


def test_unknown_arguments_are_refused_by_keras(matrix):
    with pytest.raises(ValueError, match="frobnicate"):
        vecstore.keras.embedding(matrix, frobnicate=True)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "mixed_float16"])
def test_other_arguments_reach_the_layer(matrix, dtype):
    layer = vecstore.keras.embedding(matrix, dtype=dtype, embeddings_constraint="non_neg")
    assert layer.dtype_policy.name == dtype
    assert layer.embeddings_constraint is not None
    expected = tf.cast(matrix.vectors, layer.variable_dtype)
    np.testing.assert_array_equal(layer.get_weights()[0].astype(np.float64), tf.cast(expected, tf.float64))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (2, 2, 2), ()])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected a matrix of shape \(v, d\), found shape"):
        vecstore.keras.embedding(np.zeros(shape, np.float32))


PEAK = """
import resource, sys
import numpy as np, tensorflow as tf, vecstore.keras
tf.Variable(np.ones((10, 10), np.float32))
vecstore.keras.embedding(np.ones((10, 10), np.float32))
matrix = np.ones((500_000, 100), np.float32)
matrix = vecstore.EmbeddingMatrix(matrix, np.ones(len(matrix), bool), [])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = tf.Variable(matrix.vectors) if sys.argv[1] == "variable" else vecstore.keras.embedding(matrix)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_building_the_layer_takes_no_more_memory_than_a_variable(run_python):
    added = {what: int(run_python(PEAK, what).splitlines()[-1]) for what in ("variable", "layer")}
    assert added["layer"] <= 1.1 * added["variable"]
