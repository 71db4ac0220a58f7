"""PyTorch eager as a peer: a server that reads one JSON request a line on stdin and answers with one line on stdout.

{"make": <name below>, "inputs": <safetensors>, "options": {...}} -> {"id": n}: prepares a case;
{"time": n, "repeats": r}                                         -> {"seconds": of one run};
{"save": n, "to": <path>}                                         -> {"saved": path}: the outputs of a run, by name.
"""
import json
import os
import struct
import sys
import time

import numpy as np
import torch

from pytorch_ops import attention_case, mmd_case, norm_case
from pytorch_step import step_case

numpy_dtypes = {"F32": np.float32, "F64": np.float64, "I32": np.int32}
names_of_dtypes = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32"}


def load(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], numpy_dtypes[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def save(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": names_of_dtypes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors.values():
            file.write(tensor.detach().contiguous().numpy().tobytes())


makers = {"attention": attention_case, "mmd": mmd_case, "norm": norm_case, "step": step_case}


def main():
    cases = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "threads" in request:
                torch.set_num_threads(request["threads"])
                reply = {"version": torch.__version__, "threads": torch.get_num_threads()}
            elif "make" in request:
                cases.append(makers[request["make"]](load(request["inputs"]), request.get("options", {})))
                reply = {"id": len(cases) - 1}
            elif "time" in request:
                run, start = cases[request["time"]], time.perf_counter()
                for _ in range(request["repeats"]):
                    run()
                reply = {"seconds": (time.perf_counter() - start) / request["repeats"]}
            elif "save" in request:
                save(request["to"], cases[request["save"]]())
                reply = {"saved": request["to"]}
            elif "drop" in request:
                cases[request["drop"]] = None
                reply = {"dropped": request["drop"]}
            else:
                reply = {"error": f"unknown request {line.strip()}"}
        except Exception as error:  # the other side says what failed, with the message
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


main()
os._exit(0)  # not by way of the interpreter's shutdown, which can wait for autograd's threads for ever
