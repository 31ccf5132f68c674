from vecstore.formats.names import files_of, keys_path


def test_files_of_a_source(tmp_path):
    matrix, keys = tmp_path / "vectors.npy", tmp_path / "vectors.keys.txt"
    matrix.touch()
    assert files_of(matrix) == [matrix]
    assert keys_path(matrix) == keys
    keys.touch()
    assert files_of(matrix) == [matrix, keys]
    assert files_of(tmp_path / "other.npy") == [tmp_path / "other.npy"]
    assert files_of(tmp_path / "other.npy", keys)[1] == keys
    assert files_of(tmp_path) == [tmp_path / "model.safetensors", tmp_path / "tokenizer.json"]
