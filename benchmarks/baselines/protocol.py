"""What the Python peers share: a server that reads one JSON request a line on stdin and answers with one line on stdout.

{"threads": n}                                            -> {"versions": {...}, ...}, or {"absent": reason};
{"make": <case>, "inputs": <safetensors>, "options": {}}  -> {"id": n}: prepared and run once, or {"refused": reason};
{"time": n, "repeats": r}                                 -> {"seconds": of one run};
{"save": n, "to": <path>}                                 -> {"saved": path}: the outputs of a run, by name;
{"drop": n}                                               -> {"dropped": n}.
"""
import json
import os
import struct
import sys
import time


class Refused(Exception):
    """The library cannot do this; the message says why."""


class Library:
    """A library under measurement: its versions, its cases by name, and its arrays from and to NumPy's. Where the host's clock
    is not the one to go by, `seconds` runs a case so many times and says how long that took."""

    def __init__(self, versions, cases, from_numpy, to_numpy, finish=lambda outputs: outputs, facts=None, seconds=None):
        self.versions, self.cases, self.facts = versions, cases, facts or {}
        self.from_numpy, self.to_numpy, self.finish = from_numpy, to_numpy, finish
        self.seconds = seconds or self.by_the_clock

    def by_the_clock(self, run, repeats):
        start = time.perf_counter()
        for _ in range(repeats):
            self.finish(run())
        return time.perf_counter() - start


def load(path, from_numpy):
    import numpy as np

    dtypes = {"F32": np.float32, "F64": np.float64, "I32": np.int32}
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = from_numpy(array.copy())
    return tensors


def save(path, arrays):
    names = {"float32": "F32", "float64": "F64", "int32": "I32"}
    header, offset = {}, 0
    for name, array in arrays.items():
        offsets = [offset, offset + array.nbytes]
        header[name] = {"dtype": names[str(array.dtype)], "shape": list(array.shape), "data_offsets": offsets}
        offset += array.nbytes
    encoded = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for array in arrays.values():
            file.write(array.tobytes())


class Server:
    def __init__(self, start):
        self.start, self.library, self.runs = start, None, []

    def answer(self, request):
        if "threads" in request:
            self.library = self.start(request["threads"])
            return {"versions": self.library.versions, **self.library.facts}
        if "make" in request:
            tensors = load(request["inputs"], self.library.from_numpy)
            run = self.library.cases[request["make"]](tensors, request.get("options", {}))
            self.library.finish(run())  # compiles what is to be compiled
            self.runs.append(run)
            return {"id": len(self.runs) - 1}
        if "time" in request:
            return {"seconds": self.library.seconds(self.runs[request["time"]], request["repeats"]) / request["repeats"]}
        if "save" in request:
            outputs = self.library.finish(self.runs[request["save"]]())
            save(request["to"], {name: self.library.to_numpy(output) for name, output in outputs.items()})
            return {"saved": request["to"]}
        if "drop" in request:
            self.runs[request["drop"]] = None
            return {"dropped": request["drop"]}
        return {"error": f"unknown request {json.dumps(request)}"}


def serve(start):
    """Serves a library. `start(threads)` imports it and gives a Library; what cannot be imported is absent."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr, not among the replies
    server = Server(start)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = server.answer(request)
        except ImportError as error:
            reply = {"absent" if "threads" in request else "error": str(error)}
        except Refused as error:
            reply = {"refused": str(error)}
        except Exception as error:  # the other side says what failed, with the message
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
    os._exit(0)  # not by way of the interpreter's shutdown, which can wait for a library's threads for ever
