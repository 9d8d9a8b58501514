%% @doc The benchmarks' frame: which sections run, in rounds that interleave what
%% is compared, and one line of JSON for every figure. script/bench starts it.
-module(bench).

-export([main/0, compare/4, report/5, rounds/1, scale/2, percentile/2, source/1, build/1]).
-export_type([context/0, series/0]).

-type context() :: #{
    build := file:filename(),
    source := file:filename(),
    flags := string(),
    out := file:io_device(),
    quick := boolean()
}.
-type series() :: {Name :: atom(), fun(() -> number() | [{Unit :: string(), number()}])}.

%% @doc Arguments: the directory of what was built, that of the sources, the
%% name of the flags that the node runs with, the file for the figures, `full'
%% or `quick', and the sections.
-spec main() -> no_return().
main() ->
    [Build, Source, Flags, Out, Mode | Sections] = init:get_plain_arguments(),
    {ok, Device} = file:open(Out, [append, raw, delayed_write]),
    Context = #{
        build => Build, source => Source, flags => Flags, out => Device, quick => Mode =:= "quick"
    },
    try
        start(Context),
        [section(list_to_atom(Name), Context) || Name <- Sections],
        ok = file:close(Device),
        halt(0)
    catch
        Class:Reason:Stack ->
            io:format(standard_error, "~p:~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
    end.

%% Two pools of one worker each: Python, and the native writer in its place.
start(Context) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    logger:set_primary_config(level, error),
    {ok, _} = py:start_pool(python, #{workers => 1, python_path => [source(Context)]}),
    {ok, _} = py:start_pool(native, #{workers => 1, python => build(Context) ++ "/native"}),
    {ok, _} = py:call(bench_values, echo, [1], #{}, #{pool => python}),
    ok.

section(Name, Context) ->
    [Module] = [M || M <- [bench_rates, bench_latency], lists:member(Name, M:sections())],
    io:format("~n== ~s, flags ~s~n", [Name, maps:get(flags, Context)]),
    Module:run(Name, Context).

%% @doc Where the sources are.
-spec source(context()) -> file:filename().
source(#{source := Source}) -> Source.

%% @doc Where the native programs are.
-spec build(context()) -> file:filename().
build(#{build := Build}) -> Build.

%% @doc How many rounds a figure is the median of.
-spec rounds(context()) -> pos_integer().
rounds(#{quick := true}) -> 3;
rounds(#{quick := false}) -> 5.

%% @doc A count, or a quarter of it where it has to be quick.
-spec scale(pos_integer(), context()) -> pos_integer().
scale(N, #{quick := true}) -> max(1, N div 4);
scale(N, #{quick := false}) -> N.

%% @doc Measures each series once in every round, in changing order, so that what
%% disturbs the machine disturbs all of them. The first series is the ceiling. A
%% series returns one value in `Unit', or several, each with its unit.
-spec compare(atom(), string(), [series()], context()) -> ok.
compare(Section, Unit, Series, Context) ->
    _ = [Fun() || {_, Fun} <- Series],
    Rounds = [round(N, Section, Unit, Series, Context) || N <- lists:seq(1, rounds(Context))],
    [{Ceiling, _} | _] = Series,
    io:format("   ~s~n", [Section]),
    Units = lists:usort([U || Round <- Rounds, {{_, U}, _} <- Round]),
    [summary(Name, U, Ceiling, Rounds) || U <- Units, {Name, _} <- Series],
    ok.

round(N, Section, Unit, Series, Context) ->
    {Before, After} = lists:split(N rem length(Series), Series),
    lists:append([
        [
            begin
                report(Section, Name, #{round => N, unit => U}, Value, Context),
                {{Name, U}, Value}
            end
         || {U, Value} <- values(Fun(), Unit)
        ]
     || {Name, Fun} <- After ++ Before
    ]).

values(Values, _Unit) when is_list(Values) -> Values;
values(Value, Unit) -> [{Unit, Value}].

summary(Name, Unit, Ceiling, Rounds) ->
    Values = [V || Round <- Rounds, {Key, V} <- Round, Key =:= {Name, Unit}],
    Ratios = [ratio(Name, Ceiling, Unit, Round) || Values =/= [], Round <- Rounds],
    Values =:= [] orelse
        io:format("~-28s ~14s ~-10s ~6.2f of ~s~n", [
            Name, number(percentile(50, Values)), Unit, percentile(50, Ratios), Ceiling
        ]).

ratio(Name, Ceiling, Unit, Round) ->
    {_, Value} = lists:keyfind({Name, Unit}, 1, Round),
    case lists:keyfind({Ceiling, Unit}, 1, Round) of
        {_, Best} when Best > 0 -> Value / Best;
        _ -> 0.0
    end.

number(V) when is_integer(V); V >= 1000 -> integer_to_list(round(V));
number(V) -> float_to_list(float(V), [{decimals, 3}, compact]).

%% @doc Writes a figure down. `Extra' may hold whatever else places it.
-spec report(atom(), atom(), map(), number(), context()) -> ok.
report(Section, Series, Extra, Value, #{flags := Flags, out := Out}) ->
    Fields = Extra#{section => Section, series => Series, value => Value, flags => Flags},
    Json = [[$", atom_to_list(K), "\": ", json(V)] || {K, V} <- maps:to_list(Fields)],
    ok = file:write(Out, [${, lists:join(", ", Json), "}\n"]).

json(V) when is_integer(V) -> integer_to_list(V);
json(V) when is_float(V) -> float_to_list(V, [{decimals, 6}, compact]);
json(V) when is_atom(V) -> [$", atom_to_list(V), $"];
json(V) -> [$", V, $"].

%% @doc The value below which so many of a hundred are.
-spec percentile(number(), [number(), ...]) -> number().
percentile(P, Values) ->
    Sorted = lists:sort(Values),
    Nth = max(1, ceil(P * length(Sorted) / 100)),
    lists:nth(Nth, Sorted).
