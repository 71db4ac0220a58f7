// Cuts a PTX text into words.
#include "lexer.h"

#include <cctype>
#include <cstdlib>

#include "report.h"

namespace flowmap::simt {

void Lexer::fail(const std::string& what) const { throw UnknownPtx(format("PTX line %u: %s", line_, what.c_str())); }

void Lexer::skipSpace() {
  while (at_ < text_.size()) {
    if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
      line_ += text_[at_++] == '\n';
    } else if (text_.substr(at_, 2) == "//") {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    } else if (text_.substr(at_, 2) == "/*") {
      const size_t end = text_.find("*/", at_);
      if (end == std::string_view::npos) fail("comment without end");
      while (at_ < end + 2) line_ += text_[at_++] == '\n';
    } else {
      return;
    }
  }
}

bool Lexer::atEnd() {
  skipSpace();
  return at_ == text_.size();
}

char Lexer::peek() { return atEnd() ? '\0' : text_[at_]; }

bool Lexer::eat(std::string_view token) {
  skipSpace();
  if (text_.substr(at_, token.size()) != token) return false;
  at_ += token.size();
  return true;
}

void Lexer::need(std::string_view token) {
  if (!eat(token)) fail("expected " + std::string(token) + " before " + std::string(text_.substr(at_, 30)));
}

std::string Lexer::word() {
  skipSpace();
  const size_t begin = at_;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$' || c == '%') {
      ++at_;
    } else if (text_.substr(at_, 2) == "::") {
      at_ += 2;
    } else {
      break;
    }
  }
  if (at_ == begin) fail("unexpected " + std::string(text_.substr(at_, 30)));
  return std::string(text_.substr(begin, at_ - begin));
}

bool Lexer::atNumber() {
  const char c = peek();
  return std::isdigit(static_cast<unsigned char>(c)) || c == '-';
}

uint64_t Lexer::number() {
  const bool negative = eat("-");
  std::string digits = word();
  if (digits.size() > 1 && digits[0] == '0' && std::string_view("fFdD").find(digits[1]) != std::string_view::npos) {
    const bool wide = digits[1] == 'd' || digits[1] == 'D';
    uint64_t bits = std::strtoull(digits.c_str() + 2, nullptr, 16);
    if (negative) bits ^= wide ? 1ull << 63 : 1ull << 31;
    return bits;
  }
  if (!digits.empty() && digits.back() == 'U') digits.pop_back();
  char* end = nullptr;
  const uint64_t value = std::strtoull(digits.c_str(), &end, 0);
  if (*end != '\0') fail("not a number: " + digits);
  return negative ? 0 - value : value;
}

std::string Lexer::quoted() {
  need("\"");
  const size_t begin = at_;
  skipPast('"');
  return std::string(text_.substr(begin, at_ - begin - 1));
}

std::string Lexer::restOfLine() {
  const size_t begin = at_;
  while (at_ < text_.size() && text_[at_] != '\n') ++at_;
  return std::string(text_.substr(begin, at_ - begin));
}

void Lexer::skipBraces() {
  need("{");
  for (int depth = 1; depth > 0;) {
    skipSpace();
    if (at_ == text_.size()) fail("{ without }");
    const char c = text_[at_++];
    if (c == '"') skipPast('"');
    depth += (c == '{') - (c == '}');
  }
}

void Lexer::skipPast(char end) {
  while (at_ < text_.size() && text_[at_] != end) line_ += text_[at_++] == '\n';
  if (at_ == text_.size()) fail(std::string("missing ") + end);
  ++at_;
}

}  // namespace flowmap::simt
