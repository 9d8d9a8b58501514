%% @doc Text as options have it: a string or a binary.
-module(py_text).

-export([string/1, utf8/2, variable/1]).

%% @doc As a string, for files and programs.
-spec string(string() | binary()) -> string().
string(Text) when is_binary(Text) -> unicode:characters_to_list(Text);
string(Text) when is_list(Text) -> Text.

%% @doc As UTF-8, for Python. What is no text raises `error({badopt, {Option, Text}})'.
-spec utf8(Option :: atom(), unicode:chardata()) -> binary().
utf8(Option, Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> error({badopt, {Option, Text}})
    catch
        error:badarg -> error({badopt, {Option, Text}})
    end.

%% @doc A variable of the environment as `open_port/2' wants it. `false' removes it.
-spec variable({string() | binary(), string() | binary() | false}) -> {string(), string() | false}.
variable({Name, false}) -> {string(Name), false};
variable({Name, Value}) -> {string(Name), string(Value)}.
