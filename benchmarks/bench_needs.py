"""What each peer needs: time to make its own format, disk, and memory of a process that has it open."""

PEERS = ["vecstore", "gensim", "spacy", "reach", "finalfusion", "snakefusion", "lmdb"]
WITHOUT_FORMAT = ["dict", "pandas", "tensorflow"]


def test_needs(benchmark, crew, source, prepare, data, run_python):
    needs, versions = {}, {}
    for name in [*PEERS, *WITHOUT_FORMAT]:
        if not crew.has(name):
            continue
        worker = crew.hire(name)[name]
        needs[worker.title] = {"open": crew.memory_of(name)}
        versions[worker.title] = worker.versions
        if name in PEERS:
            needs[worker.title] |= {"prepare": crew.seconds.get(name), "disk": crew.size_of(name)}
    again = crew.hire("vecstore")["vecstore"].ask("prepare", source=source, target=prepare() / "made")
    needs["vecstore"]["prepare"] = again["seconds"]
    needs["python and numpy"] = {"open": run_python("-c", "import numpy")}
    benchmark.pedantic(int, rounds=1)
    benchmark.extra_info.update(operation="needs", data=data, needs=needs, versions=versions)
