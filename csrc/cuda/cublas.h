// cuBLASLt, opened at run time: at the first product, or when `flowmap doctor` asks. Nothing links to it.
#pragma once

#include <string>

#include "cuda/cublas_api.h"

namespace flowmap::cuda {

struct Cublas {
  bool found = false;
  std::string path;     // of the library that was opened
  std::string version;  // "13.1.0"
  std::string reason;   // why there is none: all places that were searched, and what to install
  cublaslt::Api api{};
};

// Searches at the first call; the answer stays the same for the life of the process. Any thread.
const Cublas& cublas();

}  // namespace flowmap::cuda
