// Module-level PTX: variables with initialisers, functions' places, kernels, files.
#include "parser.h"

#include <cxxabi.h>

#include <cctype>
#include <cstdlib>
#include <cstring>

#include "kernel_parser.h"
#include "report.h"

namespace flowmap::simt {

Declaration parseDeclaration(Lexer& lexer) {
  Declaration declaration;
  uint32_t alignment = 0;
  for (;;) {
    const std::string word = lexer.word();
    if (word == ".align") {
      alignment = uint32_t(lexer.number());
    } else if (word == ".ptr" || word == ".global" || word == ".const" || word == ".shared" || word == ".local" ||
               word == ".attribute" || word == ".managed") {
      if (word == ".attribute") lexer.fail("unknown .attribute");
    } else if (word[0] == '.') {
      declaration.type = typeOf(word.substr(1));
      if (declaration.type == Type::none) lexer.fail("unknown type or directive " + word);
    } else {
      declaration.name = word;
      break;
    }
  }
  const uint32_t size = sizeOf(declaration.type);
  declaration.alignment = alignment ? alignment : size;
  declaration.bytes = size;
  while (lexer.eat("[")) {
    if (lexer.eat("]")) {
      declaration.unsized = true;
    } else {
      declaration.bytes *= lexer.number();
      lexer.need("]");
    }
  }
  return declaration;
}

namespace {

std::string baseName(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string demangle(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string readable = status == 0 ? text : name;
  std::free(text);
  return readable;
}

class ModuleParser {
 public:
  ModuleParser(const std::string& text, DeviceMemory& memory)
      : lexer_(text), memory_(memory), module_(std::make_unique<Module>()) {
    findFiles(text);
  }

  std::unique_ptr<Module> parse() {
    while (!lexer_.atEnd()) parseTop(lexer_.word());
    for (const auto& [place, kernel] : entries_) {
      lexer_.moveTo(place);
      KernelParser(lexer_, *module_, scope_, *kernel).parse();
    }
    return std::move(module_);
  }

 private:
  // .file directives stand at the end of the text, and are needed before.
  void findFiles(const std::string& text) {
    for (size_t at = 0; (at = text.find(".file", at)) != std::string::npos;) {
      const bool directive = at > 0 && std::isspace(static_cast<unsigned char>(text[at - 1])) &&
                             std::isspace(static_cast<unsigned char>(text[at + 5]));
      at += 5;
      if (!directive) continue;
      Lexer lexer(std::string_view(text).substr(at));
      const int number = int(lexer.number());
      scope_.files[number] = baseName(lexer.quoted());
    }
  }

  void parseTop(const std::string& word) {
    if (word == ".version" || word == ".target" || word == ".address_size" || word == ".file") {
      lexer_.restOfLine();
    } else if (word == ".visible" || word == ".extern" || word == ".weak" || word == ".common") {
      return;
    } else if (word == ".global" || word == ".const") {
      parseGlobal();
    } else if (word == ".shared") {
      parseShared();
    } else if (word == ".func") {
      parseFunction();
    } else if (word == ".entry") {
      parseEntry();
    } else if (word == ".section") {
      lexer_.word();
      lexer_.skipBraces();
    } else {
      lexer_.fail("unknown directive " + word);
    }
  }

  void parseGlobal() {
    const Declaration declaration = parseDeclaration(lexer_);
    std::vector<uint8_t> bytes(declaration.bytes, 0);  // variables without initialiser are zero
    if (lexer_.eat("=")) parseInitialiser(declaration, bytes);
    lexer_.need(";");
    const uint64_t address = memory_.allocate(bytes.size());
    if (!address) lexer_.fail("no device memory for " + declaration.name);
    std::memcpy(memory_.bytes(address), bytes.data(), bytes.size());
    std::memset(memory_.shadow(address), kWritten, bytes.size());
    scope_.variables[declaration.name] = {Space::global, address};
    module_->globals[declaration.name] = {address, bytes.size()};
  }

  void parseInitialiser(const Declaration& declaration, std::vector<uint8_t>& bytes) {
    const uint32_t size = sizeOf(declaration.type);
    size_t at = 0;
    const auto element = [&](auto& self) -> void {
      if (lexer_.eat("{")) {
        do self(self);
        while (lexer_.eat(","));
        lexer_.need("}");
        return;
      }
      const uint64_t value = lexer_.atNumber() ? lexer_.number() : addressOf(lexer_.word());
      if (at + size > bytes.size()) lexer_.fail("too many initialisers of " + declaration.name);
      std::memcpy(&bytes[at], &value, size);
      at += size;
    };
    element(element);
  }

  uint64_t addressOf(std::string name) {
    const bool generic = name == "generic";
    if (generic) {
      lexer_.need("(");
      name = lexer_.word();
      lexer_.need(")");
    }
    const auto found = scope_.variables.find(name);
    if (found == scope_.variables.end() || found->second.space != Space::global) lexer_.fail("unknown address " + name);
    uint64_t address = found->second.address;
    if (lexer_.eat("+")) address += lexer_.number();
    return address;
  }

  void parseShared() {
    const Declaration declaration = parseDeclaration(lexer_);
    lexer_.need(";");
    Variable variable{Space::shared, 0};
    variable.dynamic = declaration.unsized;
    scope_.variables[declaration.name] = variable;
    scope_.sharedSizes[declaration.name] = uint32_t(declaration.bytes);
    scope_.sharedAlignments[declaration.name] = declaration.alignment;
  }

  std::vector<std::string> parseFormals() {
    std::vector<std::string> names;
    if (!lexer_.eat("(")) return names;
    while (!lexer_.eat(")")) {
      lexer_.word();  // .param or .reg
      names.push_back(parseDeclaration(lexer_).name);
      lexer_.eat(",");
    }
    return names;
  }

  void parseFunction() {
    Function function;
    function.results = parseFormals();
    const std::string name = lexer_.word();
    function.parameters = parseFormals();
    while (lexer_.peek() == '.') lexer_.word();  // .noreturn
    if (lexer_.eat(";")) return;
    function.body = lexer_.place();
    lexer_.skipBraces();
    scope_.functions[name] = function;
  }

  // A kernel's functions may stand after it, so kernels are parsed when everything was seen: nvcc declares, then
  // defines.
  void parseEntry() {
    const std::string name = lexer_.word();
    auto kernel = std::make_unique<Kernel>();
    kernel->name = name;
    kernel->readable = demangle(name);
    const Lexer::Place place = lexer_.place();
    entries_.push_back({place, kernel.get()});
    lexer_.skipPast('{');
    lexer_.moveTo({lexer_.place().at - 1, lexer_.place().line});
    lexer_.skipBraces();
    module_->kernels[name] = std::move(kernel);
  }

  Lexer lexer_;
  DeviceMemory& memory_;
  std::unique_ptr<Module> module_;
  ModuleScope scope_;
  std::vector<std::pair<Lexer::Place, Kernel*>> entries_;
};

}  // namespace

std::unique_ptr<Module> parse(const std::string& text, DeviceMemory& memory) {
  return ModuleParser(text, memory).parse();
}

}  // namespace flowmap::simt
