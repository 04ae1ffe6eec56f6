"""treelite or lleaves on a LightGBM model, by the interpreter of its own environment; read by predict_speed.py.

    <python with it> tests/benchmarks/other_evaluators.py treelite|lleaves model.txt FOLDER

Reads FOLDER/rows.npy, writes FOLDER/<name>.npy and FOLDER/<name>.json; nothing of this project is imported.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np


def evaluator(name, model):
    """rows -> predictions, on one thread."""
    if name == "treelite":
        import treelite

        trees = treelite.frontend.load_lightgbm_model(model)
        return lambda rows: treelite.gtil.predict(trees, rows, nthread=1)
    import lleaves

    compiled = lleaves.Model(model_file=model)
    compiled.compile()
    return lambda rows: compiled.predict(rows, n_jobs=1)


def main():
    name, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    rows, start = np.load(folder / "rows.npy"), time.process_time()
    predict = evaluator(name, model)
    compiling, seconds = time.process_time() - start, []
    for _ in range(3):
        start = time.process_time()
        found = predict(rows)
        seconds.append(time.process_time() - start)
    np.save(folder / f"{name}.npy", found)
    said = {"rows_per_cpu_second": len(rows) / statistics.median(seconds), "compile_cpu_seconds": compiling}
    (folder / f"{name}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
