// Every element type to every other, with the rules of core/convert_element.h.
#include "core/convert_element.h"
#include "cuda/backend.h"
#include "cuda/map.cuh"

namespace flowmap::cuda {
namespace {

template <class To>
struct Convert {
  template <class From>
  __device__ __forceinline__ To operator()(From x) const {
    return convertElement<To>(x);
  }
};

}  // namespace

void CudaBackend::cast(const Tensor& out, const Tensor& x) {
  dispatchAll(out.dtype(), [&]<class To>() {
    dispatchAll(x.dtype(), [&]<class From>() {
      if constexpr (!std::is_same_v<To, From>)
        mapFlat(runtime_, out.data<To>(), out.numel(), Convert<To>{}, x.data<const From>());
    });
  });
}

}  // namespace flowmap::cuda
