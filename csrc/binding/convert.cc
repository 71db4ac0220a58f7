#include "binding/convert.h"

#include <cmath>
#include <cstdio>

namespace flowmap::binding {
namespace {

template <class Convert>
auto mapArray(napi_env env, ArgumentName name, const char* expected, napi_value value, Convert convert) {
  bool isArray = false;
  napi_is_array(env, value, &isArray);
  if (!isArray) failArgument(env, name, expected, value);
  uint32_t length = 0;
  napi_get_array_length(env, value, &length);
  std::vector<decltype(convert(value))> result;
  result.reserve(length);
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    if (napi_get_element(env, value, i, &element) != napi_ok) {
      napi_value ignored;
      napi_get_and_clear_last_exception(env, &ignored);
      failArgument(env, name, expected, value);
    }
    result.push_back(convert(element));
  }
  return result;
}

bool isNothing(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  return type == napi_undefined || type == napi_null;
}

}  // namespace

std::string describe(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  switch (type) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean: {
      bool b = false;
      napi_get_value_bool(env, value, &b);
      return b ? "true" : "false";
    }
    case napi_number: {
      double d = 0;
      napi_get_value_double(env, value, &d);
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", d);
      return text;
    }
    case napi_string: {
      char text[64];
      size_t length = 0;
      napi_get_value_string_utf8(env, value, text, sizeof text, &length);
      return "'" + std::string(text, length) + "'";
    }
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default: {
      bool isArray = false;
      napi_is_array(env, value, &isArray);
      return isArray ? "an array" : "an object";
    }
  }
}

void failArgument(napi_env env, ArgumentName name, const char* expected, napi_value value) {
  fail(ErrorCode::Argument, name.op, name.argument, " must be ", expected, ", got ", describe(env, value));
}

double toDouble(napi_env env, ArgumentName name, napi_value value) {
  double result = 0;
  if (napi_get_value_double(env, value, &result) != napi_ok) failArgument(env, name, "a number", value);
  return result;
}

int64_t toInteger(napi_env env, ArgumentName name, napi_value value) {
  double result = 0;
  if (napi_get_value_double(env, value, &result) != napi_ok || !(std::abs(result) <= 0x1p53) ||
      result != std::trunc(result)) {
    failArgument(env, name, "an integer", value);
  }
  return static_cast<int64_t>(result);
}

bool toBool(napi_env env, ArgumentName name, napi_value value) {
  bool result = false;
  if (napi_get_value_bool(env, value, &result) != napi_ok) failArgument(env, name, "a boolean", value);
  return result;
}

std::string toString(napi_env env, ArgumentName name, napi_value value) {
  char text[256];
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, text, sizeof text, &length) != napi_ok) {
    failArgument(env, name, "a string", value);
  }
  return std::string(text, length);
}

DType toDType(napi_env env, ArgumentName name, napi_value value) {
  constexpr DType kAll[] = {DType::Float32, DType::Float64, DType::BFloat16, DType::Float16, DType::Int32, DType::Bool};
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  if (type == napi_string) {
    const std::string text = toString(env, name, value);
    for (DType dtype : kAll) {
      if (text == dtypeName(dtype)) return dtype;
    }
  }
  fail(ErrorCode::DType, name.op, name.argument,
       " must be one of float32, float64, bfloat16, float16, int32, bool, got ", describe(env, value));
}

Shape toShape(napi_env env, ArgumentName name, napi_value value) {
  const auto sizes = mapArray(env, name, "an array of integers", value,
                              [&](napi_value element) { return toInteger(env, name, element); });
  if (sizes.size() > kMaxRank) {
    fail(ErrorCode::Shape, name.op, name.argument, " must have at most ", kMaxRank, " axes, got ", sizes.size());
  }
  Shape shape;
  for (int64_t size : sizes) shape.push(size);
  return shape;
}

Tensor toTensor(napi_env env, ArgumentName name, napi_value value) {
  double handle = 0;
  if (napi_get_value_double(env, value, &handle) != napi_ok) failArgument(env, name, "a tensor", value);
  const Tensor* tensor = Environment::of(env).handles().find(handle);
  if (!tensor) fail(ErrorCode::Disposed, name.op, name.argument, " must be a live tensor, got one that was disposed");
  return *tensor;
}

OptionalTensor toOptionalTensor(napi_env env, ArgumentName name, napi_value value) {
  if (isNothing(env, value)) return {};
  return toTensor(env, name, value);
}

std::vector<Tensor> toTensors(napi_env env, ArgumentName name, napi_value value) {
  return mapArray(env, name, "an array of tensors", value,
                  [&](napi_value element) { return toTensor(env, name, element); });
}

std::vector<OptionalTensor> toOptionalTensors(napi_env env, ArgumentName name, napi_value value) {
  return mapArray(env, name, "an array of tensors or nulls", value,
                  [&](napi_value element) { return toOptionalTensor(env, name, element); });
}

std::vector<int64_t> toIntegers(napi_env env, ArgumentName name, napi_value value) {
  return mapArray(env, name, "an array of integers", value,
                  [&](napi_value element) { return toInteger(env, name, element); });
}

std::vector<double> toDoubles(napi_env env, ArgumentName name, napi_value value) {
  return mapArray(env, name, "an array of numbers", value,
                  [&](napi_value element) { return toDouble(env, name, element); });
}

napi_value toJs(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

napi_value toJs(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

napi_value toJs(napi_env env, const std::string& value) {
  napi_value result;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

napi_value toJs(napi_env env, const Tensor& value) {
  if (!value) {
    napi_value null;
    napi_get_null(env, &null);
    return null;
  }
  return toJs(env, Environment::of(env).insert(value));
}

napi_value toJs(napi_env env, const std::vector<Tensor>& values) {
  napi_value array;
  napi_create_array_with_length(env, values.size(), &array);
  for (size_t i = 0; i < values.size(); ++i) {
    napi_set_element(env, array, static_cast<uint32_t>(i), toJs(env, values[i]));
  }
  return array;
}

napi_value toJs(napi_env env, const std::vector<double>& values) {
  napi_value array;
  napi_create_array_with_length(env, values.size(), &array);
  for (size_t i = 0; i < values.size(); ++i) {
    napi_set_element(env, array, static_cast<uint32_t>(i), toJs(env, values[i]));
  }
  return array;
}

}  // namespace flowmap::binding
