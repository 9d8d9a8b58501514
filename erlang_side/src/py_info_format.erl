%% @doc The state of the pools as a table for the shell.
%% @hidden
-module(py_info_format).
-compile({no_auto_import, [nodes/1]}).

-export([format/1, nodes/1]).

%% Terminals have at least 80 columns, and most have more than this. What is longer is cut.
-define(COLUMNS, 100).
-define(LONGEST_NAME, 20).
-define(LONGEST_NODE, 32).

%% @doc A line for each worker of each pool in what `py:info/0' returns.
-spec format(#{atom() => py_pool_info:info() | {error, py_error:reason()}}) -> iolist().
format(Pools) ->
    format("pool", ?LONGEST_NAME, Pools).

%% @doc The same for one pool, by node, as `py:info({Name, all})' returns it.
-spec nodes(#{node() => py_pool_info:info() | {error, py_error:reason()}}) -> iolist().
nodes(Nodes) ->
    format("node", ?LONGEST_NODE, Nodes).

format(Head, Longest, Pools) ->
    Rows = lists:append([rows(cut(text(Name), Longest), Pool) || {Name, Pool} <- lists:sort(maps:to_list(Pools))]),
    table([
        [Head, "worker", "os pid", "python", "memory", "age", "streams", "calls", "threads", "remarks"] | Rows
    ]).

rows(Name, #{workers := Workers, size := Size} = Pool) ->
    Python = maps:get(python, maps:get(python, Pool, #{}), "-"),
    Lines = [
        [Name, maps:get(pid, W), known(maps:get(os_pid, W, undefined)), known(maps:get(python, W, undefined))]
            ++ [memory(maps:get(rss, W, undefined)), age(maps:get(age, W, undefined))]
            ++ [maps:get(Key, W, "-") || Key <- [streams, calls, threads]]
            ++ [remark(W)]
     || W <- Workers
    ],
    Missing = Size - length(Workers),
    Lines ++
        [[Name, "-", "-", Python, "-", "-", "-", "-", "-", missing(Missing, Pool)] || Missing > 0] ++
        [[Name, "", "", "", "", "", "", "", "", restarts(Pool)] || maps:get(restarts, Pool, 0) > 0] ++
        [[Name, "draining", "", "", "", "", "", "", "", ""] || maps:get(draining, Pool, false)];
rows(Name, _Error) ->
    [[Name, "-", "-", "-", "-", "-", "-", "-", "-", "gone"]].

known(undefined) -> "-";
known(Value) -> Value.

memory(undefined) -> "-";
memory(Bytes) when Bytes < 10_000_000_000 -> io_lib:format("~b MB", [Bytes div 1_000_000]);
memory(Bytes) -> io_lib:format("~b GB", [Bytes div 1_000_000_000]).

age(undefined) -> "-";
age(Ms) when Ms < 120_000 -> io_lib:format("~b s", [Ms div 1000]);
age(Ms) when Ms < 7_200_000 -> io_lib:format("~b min", [Ms div 60_000]);
age(Ms) when Ms < 172_800_000 -> io_lib:format("~b h", [Ms div 3_600_000]);
age(Ms) -> io_lib:format("~b d", [Ms div 86_400_000]).

remark(#{error := Reason}) -> ["does not answer: ", py_error:format_error(Reason)];
remark(#{}) -> "".

missing(N, Pool) ->
    io_lib:format("~b not ready; the last one ended with ~0tp", [N, maps:get(last_exit, Pool, none)]).

restarts(Pool) ->
    io_lib:format("restarted ~b times; the last one ended with ~0tp", [
        maps:get(restarts, Pool), maps:get(last_exit, Pool, none)
    ]).

table(Rows) ->
    Texts = [[text(Cell) || Cell <- Row] || Row <- Rows],
    Widths = [lists:max([string:length(Cell) || Cell <- Column]) || Column <- columns(Texts)],
    [
        [cut(string:trim(lists:join("  ", [string:pad(Cell, W) || {Cell, W} <- lists:zip(Row, Widths)]), trailing)), $\n]
     || Row <- Texts
    ].

cut(Line) ->
    cut(Line, ?COLUMNS).

cut(Text, Longest) ->
    case string:length(Text) > Longest of
        true -> [string:slice(Text, 0, Longest - 3), "..."];
        false -> Text
    end.

columns([[] | _]) -> [];
columns(Rows) -> [[hd(Row) || Row <- Rows] | columns([tl(Row) || Row <- Rows])].

text(Cell) when is_list(Cell); is_binary(Cell) -> lists:flatten(string:replace(unicode:characters_to_list(Cell), "\n", " ", all));
text(Cell) -> lists:flatten(io_lib:format("~tp", [Cell])).
