"""Everyday words for the tokenizer, so that questions nobody foresaw are cut into few pieces."""

COMMON = """
the be to of and a in that have I it for not on with he as you do at this but his by from they we say her she or an will my
one all would there their what so up out if about who get which go me when make can like time no just him know take people
into year your good some could them see other than then now look only come its over think also back after use two how our
work first well way even new want because any these give day most us is are was were been has had did does said made find
here thing many part long place great right still world own under last never very tell ask need feel become leave put mean
keep let begin seem help show hear play run move live believe hold bring happen write provide sit stand lose pay meet
include continue set learn change lead understand watch follow stop create speak read allow add spend grow open walk win
offer remember love consider appear buy wait serve die send expect build stay fall cut reach kill remain suggest raise pass
sell require report decide pull man woman child children family friend father mother boy girl baby men women home room house
door window floor wall kitchen garden street city town country road school office shop store market church hospital park
water fire air earth sun moon star sky rain snow wind cloud river sea lake mountain forest tree flower grass leaf animal
dog cat bird fish horse cow pig sheep food bread milk meat fruit apple egg rice salt sugar coffee tea wine beer morning
evening night week month hour minute today tomorrow yesterday spring summer autumn winter body head face eye ear nose mouth
hand arm leg foot hair heart blood book paper letter word name number line page story picture photo image color colour
shape size red blue green yellow black white brown orange purple pink gray grey big small large little old young high low
short hot cold warm cool hard soft easy difficult important different same next early late possible public sure true false
real best better bad worse free full empty clean dirty happy sad angry afraid beautiful dangerous safe careful ready strong
weak rich poor money price dollar job company business government law police court problem question answer reason idea
fact case group system program state point issue side kind power war peace army gun knife weapon explosive attack danger
hurt harm illegal legal crime steal thief lie secret drug medicine doctor nurse health disease car bus train plane ship
boat bicycle truck engine wheel machine computer phone internet video music song dance game team ball player sport test
science art history language english teacher student class lesson north south east west left right top bottom front behind
above below between near far inside outside around through across before after during until while again always often
sometimes maybe please thanks hello yes why where whose whom each every both few more less much enough too almost already
together alone against without within per percent three four five six seven eight nine ten hundred thousand million second
third half example information data model step instruction instructions guide explain describe detail details list
identify contain contains shown visible object objects background foreground person holding wearing standing sitting
there's it's don't doesn't can't I'm you're isn't wasn't what's let's illegal activity product item phrase website email
account password bank credit card hack virus weapon poison bomb chemical electric metal wood plastic glass stone gold
"""
