#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "data/chat_template.h"
#include "data/jinja/template.h"
#include "support/shared_data.h"

namespace flyover::data::jinja {
namespace {

using base::Json;
using testing::HasSubstr;

/// What Python's jinja2 made of the same templates (tests/data/reference/make_jinja_cases.py).
const Json& reference() {
  static const Json cases = base::read_json_file(tests::repository() / "tests/data/reference/jinja_cases.json");
  return cases;
}

std::string render(const std::string& source, const Json& variables = Json::object()) {
  return Template::parse(source, "t").render(variables).text;
}

std::string message_of(const std::string& source, const RenderOptions& options = {}) {
  try {
    const std::string text = Template::parse(source, "t").render(Json::object(), options).text;
    return "no error, but: " + text.substr(0, 100);
  } catch (const base::Error& error) {
    return error.what();
  }
}

TEST(Jinja, SmallTemplatesGiveWhatPythonGives) {
  RenderOptions options;
  options.now = reference()["now"].get<std::int64_t>();
  int compared = 0;
  for (const Json& test : reference()["cases"]) {
    SCOPED_TRACE(test["template"].get<std::string>());
    std::string error;
    Rendered rendered;
    try {
      rendered = Template::parse(test["template"].get<std::string>(), "t").render(reference()["variables"], options);
    } catch (const base::Error& caught) {
      error = caught.what();
    }
    ++compared;
    if (test.contains("error")) {
      EXPECT_THAT(error, testing::StartsWith("t:")) << "gave: " << rendered.text;
      continue;
    }
    EXPECT_EQ(error, "");
    EXPECT_EQ(rendered.text, test["text"].get<std::string>());
    std::vector<Span> spans;
    for (const Json& span : test.value("generation", Json::array())) {
      spans.push_back({span[0].get<std::size_t>(), span[1].get<std::size_t>()});
    }
    EXPECT_EQ(rendered.generation, spans);
  }
  EXPECT_GT(compared, 500);
}

std::string fnv1a(std::string_view text) {
  std::uint64_t number = 0xCBF29CE484222325;
  for (const char byte : text) {
    number = (number ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  }
  return fmt::format("{:016x}", number);
}

std::string real_template(const std::filesystem::path& path) {
  return path.extension() == ".json" ? base::get_string(base::read_json_file(path), "chat_template", path.string())
                                     : base::read_file(path);
}

/// Compares what a template gives for a case of the reference.
void compare_chat(const Template& chat_template, const Json& test) {
  Json variables = {{"tools", nullptr}, {"documents", nullptr}, {"bos_token", "<s>"}, {"eos_token", "</s>"}};
  variables.update(reference()["conversations"][test["conversation"].get<std::string>()]);
  variables.update(reference()["extras"][test["extra"].get<std::string>()]);
  variables["add_generation_prompt"] = test["prompt"];
  SCOPED_TRACE(test.dump());
  std::string error;
  std::string text;
  try {
    text = chat_template.render(variables).text;
  } catch (const base::Error& caught) {
    error = caught.what();
  }
  if (test.contains("error")) {
    EXPECT_THAT(error, testing::StartsWith(chat_template.name() + ":")) << text;
    return;
  }
  EXPECT_EQ(error, "");
  EXPECT_EQ(text.size(), test["bytes"].get<std::size_t>());
  EXPECT_EQ(fnv1a(text), test["hash"].get<std::string>()) << text;
}

constexpr std::string_view kBuiltIn = "built-in ";

TEST(Jinja, RealChatTemplatesGiveWhatPythonGives) {
  FLYOVER_SHARED_OR_SKIP(directory, "tokenizers");
  int compared = 0;
  for (const Json& test : reference()["real"]) {
    const auto name = test["template"].get<std::string>();
    if (!name.starts_with(kBuiltIn)) {
      compare_chat(Template::parse(real_template(directory / name), name), test);
      ++compared;
    }
  }
  EXPECT_GT(compared, 150);
}

TEST(Jinja, BuiltInChatTemplatesGiveWhatPythonGives) {
  int compared = 0;
  for (const Json& test : reference()["real"]) {
    const auto name = test["template"].get<std::string>();
    if (name.starts_with(kBuiltIn)) {
      const BuiltInTemplate& built_in = find_built_in_template(name.substr(kBuiltIn.size()));
      compare_chat(Template::parse(std::string(built_in.source), name), test);
      ++compared;
    }
  }
  EXPECT_GE(compared, 60);
}

TEST(Jinja, WhatIsNotSupportedIsRefusedWithTemplateLineAndConstruct) {
  EXPECT_EQ(message_of("a\nb\n{% include 'x' %}"), "t:3: the statement {% include %} is not supported here");
  EXPECT_THAT(message_of("\n{% blok %}"), HasSubstr("t:2: the statement {% blok %}"));
  EXPECT_THAT(message_of("{% endfro %}"), HasSubstr("did you mean \"endfor\"?"));
  EXPECT_EQ(message_of("\n\n{{ x | urlize }}"), "t:3: the filter \"urlize\" is not supported");
  EXPECT_EQ(message_of("{{\nx is prime }}"), "t:2: the test \"prime\" is not supported");
  EXPECT_EQ(message_of("{% for x in y recursive %}{% endfor %}"), "t:1: a recursive for loop is not supported");
  EXPECT_THAT(message_of("{{ f(*x) }}"), HasSubstr("unpacking arguments"));
  EXPECT_THAT(message_of("{{ 'x'.encode() }}"), HasSubstr("the method 'encode' of a 'str' is not supported"));
  EXPECT_THAT(message_of("{{ '{:d}'.format(3) }}"), HasSubstr("the field {:d} is not supported"));
  EXPECT_THAT(message_of("{{ {'a': 1}.items }}"), HasSubstr("printing a function is not supported"));
  EXPECT_THAT(message_of("{{ [1] | map('string') }}"), HasSubstr("put `| list` behind it"));
  EXPECT_THAT(message_of("{% macro f() %}{% generation %}{% endgeneration %}{% endmacro %}"), HasSubstr("t:1: "));
  EXPECT_THAT(message_of("{{ a\x80 }}"), HasSubstr("not valid UTF-8"));
}

TEST(Jinja, ErrorsWhileRenderingNameTheLine) {
  EXPECT_EQ(message_of("a\n{{ x.y }}"), "t:2: 'x' is undefined: its attribute 'y' cannot be read");
  EXPECT_EQ(message_of("a\n\n{{ raise_exception('no tools here') }}"),
            "t:3: the template refuses the input: no tools here");
  EXPECT_EQ(message_of("{% set x = 1 %}\n{{ 'a'\n + x }}"), "t:3: '+' is not defined between 'str' and 'int'");
}

TEST(Jinja, ContentThatLooksLikeATemplateComesThroughVerbatim) {
  const std::string content = "{{ x }} {% if %} {# no #} \\n {%- raw -%} \xF0\x9F\x98\x80 }}";
  EXPECT_EQ(render("[{{ c }}{{ '' + c }}{{ [c] | join }}]", {{"c", content}}), "[" + content + content + content + "]");
}

TEST(Jinja, ADateIsGivenByTheCallerOrAnError) {
  EXPECT_THAT(message_of("{{ strftime_now('%Y') }}"), HasSubstr("t:1: the template asks for the current date"));
  EXPECT_EQ(message_of("{{ strftime_now('%Y') }}", {.now = 0}), "no error, but: 1970");
}

TEST(Jinja, IntegersThatOverflowAreErrors) {
  for (const char* expression :
       {"9223372036854775807 + 1", "-9223372036854775807 - 2", "9223372036854775807 * 2", "2 ** 63", "3 ** 10000000",
        "-(-9223372036854775807 - 1)", "(-9223372036854775807 - 1) // -1", "(-9223372036854775807 - 1) | abs",
        "9223372036854775808", "'9223372036854775808' | int", "1e30 | int"}) {
    EXPECT_THAT(message_of(fmt::format("{{{{ {} }}}}", expression)), HasSubstr("64 bits")) << expression;
  }
  EXPECT_EQ(render("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  EXPECT_EQ(render("{{ [1, 2, 3][9223372036854775807:] }}{{ [1, 2][-9223372036854775807:9223372036854775807] }}"
                   "{{ [1, 2, 3][::9223372036854775807] }}{{ [1, 2, 3][::-9223372036854775807 - 1] }}"),
            "[][1, 2][1][3]");
}

TEST(Jinja, RunawayTemplatesEndInErrors) {
  EXPECT_THAT(message_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("recursion is deeper"));
  EXPECT_THAT(message_of("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                         {.maximum_steps = 300000}),
              HasSubstr("steps"));
  EXPECT_THAT(message_of("{{ 'x' * 1000000000 }}"), HasSubstr("longer than the limit"));
  EXPECT_THAT(message_of("{{ [1] * 9000000000000000000 }}"), HasSubstr("longer than the limit"));
  EXPECT_THAT(message_of("{{ 'x' | center(9000000000000000000) }}"), HasSubstr("longer than the limit"));
  EXPECT_THAT(message_of("{{ '%99999999d' % 1 }}"), HasSubstr("width"));
  EXPECT_THAT(message_of("{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}"
                         "{% endfor %}"),
              HasSubstr("longer than the limit"));
  EXPECT_THAT(message_of("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("nested in each other"));
  EXPECT_THAT(message_of("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
                         "{% endfor %}{{ ns.x == ns.x }}"),
              HasSubstr("holds more than"));
  EXPECT_THAT(
      message_of("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", {.maximum_output_bytes = 1'000'000}),
      HasSubstr("rendered text"));
  EXPECT_THAT(message_of("{% for i in range(99999) %}{% set x = 'x' * 9999999 %}{% endfor %}",
                         {.maximum_work_bytes = 100'000'000}),
              HasSubstr("handles more than"));
  EXPECT_THAT(message_of("{{ " + std::string(100000, '(') + std::string(100000, ')') + " }}"), HasSubstr("nesting"));
  EXPECT_THAT(message_of("{{ " + std::string(100000, '-') + "1 }}"), HasSubstr("nesting"));
  std::string sum = "{{ 1";
  for (int i = 0; i < 100000; ++i) {
    sum += " + 1";
  }
  EXPECT_THAT(message_of(sum + " }}"), HasSubstr("levels"));
  std::string ifs;
  for (int i = 0; i < 100000; ++i) {
    ifs += "{% if true %}";
  }
  EXPECT_THAT(message_of(ifs), HasSubstr("nesting"));
}

TEST(Jinja, ValuesThatHoldEachOtherDoNotLeakAndDoNotPrint) {
  EXPECT_EQ(render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a.b.a.b is defined }}"
                   "{% macro f() %}{% endmacro %}{% set a.f = f %}"),
            "True");
  EXPECT_THAT(message_of("{% set a = namespace() %}{% set a.a = [a] %}{{ a.a }}"), HasSubstr("printing a namespace"));
  EXPECT_THAT(message_of("{% set n = namespace() %}{% for i in [1] %}{% macro f() %}{{ i }}{% endmacro %}"
                         "{% set n.f = f %}{% endfor %}{{ n.f() }}"),
              HasSubstr("outside of the loop"));
}

TEST(Jinja, VariablesMustBeTextInUtf8AndIntegersOf64Bits) {
  EXPECT_THROW(render("{{ x }}", {{"x", "a\xFF"}}), base::Error);
  EXPECT_THROW(render("{{ x }}", {{"x", std::uint64_t{1} << 63}}), base::Error);
  EXPECT_THROW(render("{{ x }}", Json::array()), base::Error);
  EXPECT_EQ(render("{{ y }}", {{"x", "a\xFF"}, {"y", INT64_MIN}}), "-9223372036854775808");
}

/// Pieces that templates are made of, put together at random: whatever comes out, nothing crashes or hangs.
TEST(Jinja, RandomSequencesOfTokensNeverCrash) {
  const std::vector<std::string> pieces = {"{{ ",
                                           " }}",
                                           "{% ",
                                           " %}",
                                           "{%- ",
                                           " -%}",
                                           "{# ",
                                           " #}",
                                           "for x in y",
                                           "endfor",
                                           "if x",
                                           "else",
                                           "endif",
                                           "set x = ",
                                           "set x",
                                           "endset",
                                           "macro f(a, b=1)",
                                           "endmacro",
                                           "call f()",
                                           "endcall",
                                           "filter upper",
                                           "endfilter",
                                           "raw",
                                           "endraw",
                                           "generation",
                                           "endgeneration",
                                           "x",
                                           "y",
                                           "f(",
                                           ")",
                                           "[",
                                           "]",
                                           "{",
                                           "}",
                                           "'a'",
                                           "\"",
                                           "1",
                                           "2.5",
                                           " + ",
                                           " - ",
                                           " ~ ",
                                           " * ",
                                           " ** ",
                                           " // ",
                                           " % ",
                                           " is ",
                                           " not ",
                                           " in ",
                                           " and ",
                                           ".x",
                                           "|",
                                           "tojson",
                                           "length",
                                           "join(",
                                           ":",
                                           ",",
                                           " = ",
                                           "==",
                                           "<",
                                           "namespace(",
                                           "loop.index",
                                           "\n",
                                           "  ",
                                           "é",
                                           "none",
                                           "range(3)",
                                           "::-1",
                                           "break",
                                           "continue",
                                           "with a = 1",
                                           "endwith",
                                           "elif"};
  std::uint64_t state = 88172645463325252ULL;
  const auto next = [&](std::uint64_t bound) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % bound;
  };
  int rendered = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string source;
    const std::uint64_t count = 1 + next(14);
    for (std::uint64_t i = 0; i < count; ++i) {
      source += pieces[next(pieces.size())];
    }
    try {
      render(source, {{"x", "text"}, {"y", {1, 2, 3}}});
      ++rendered;
    } catch (const base::Error& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("t:"));
    }
  }
  EXPECT_GT(rendered, 1000);
}

}  // namespace
}  // namespace flyover::data::jinja
